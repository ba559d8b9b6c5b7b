// SPDX-License-Identifier: Apache-2.0
// Objects of C++: operator new in its forms, and an exception as one more flow.
#include "pairs.h"

#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#define RESOURCE "heap"

struct Shape {
    virtual ~Shape() = default;
    long a = 1;
};
struct Circle : Shape {
    long b[4] = {};
};
struct alignas(64) Wide {
    char bytes[64];
};
typedef char *text;
typedef Shape *shape;
typedef Wide *wide;
typedef std::string *string;
typedef std::vector<std::string> *vector;

#define UNIT shape
#define ACQUIRER new
#define NEW_UNIT new Circle
#define END_UNIT(v) delete v
#define BYTES sizeof(Circle)
#define FLOWS FLOWS_ALL
#include "flows.inc"

#define ACQUIRER new_nothrow
#define NEW_UNIT new (std::nothrow) Circle
#define END_UNIT(v) delete v
#define BYTES sizeof(Circle)
#define FLOWS FLOWS_BASIC | FLOWS_LIFE
#include "flows.inc"

#define ACQUIRER unique_ptr
#define NEW_UNIT std::make_unique<Circle>().release()
#define END_UNIT(v) std::unique_ptr<Shape>{v}
#define BYTES sizeof(Circle)
#define FLOWS FLOWS_CALLS | FLOWS_LIFE
#include "flows.inc"
#undef UNIT

#define UNIT text
#define ACQUIRER new_array
#define NEW_UNIT new char[40]
#define END_UNIT(v) delete[] v
#define BYTES 40
#define FLOWS FLOWS_CALLS | FLOWS_DATA
#include "flows.inc"
#undef UNIT

#define UNIT wide
#define ACQUIRER new_aligned
#define NEW_UNIT new Wide
#define END_UNIT(v) delete v
#define BYTES sizeof(Wide)
#define FLOWS FLOWS_BASIC
#include "flows.inc"

#define ACQUIRER new_aligned_array
#define NEW_UNIT new Wide[3]
#define END_UNIT(v) delete[] v
#define BYTES 3 * sizeof(Wide)
#define FLOWS FLOWS_DATA
#include "flows.inc"
#undef UNIT

#define UNIT string
#define ACQUIRER string
#define NEW_UNIT new std::string(300, 'x')
#define END_UNIT(v) delete v
#define BYTES sizeof(std::string)
#define FLOWS FLOWS_LIFE
#include "flows.inc"
#undef UNIT

#define UNIT vector
#define ACQUIRER vector
#define NEW_UNIT new std::vector<std::string>(3, std::string(99, 'y'))
#define END_UNIT(v) delete v
#define BYTES sizeof(std::vector<std::string>)
#define FLOWS FLOWS_CALLS
#include "flows.inc"
#undef UNIT

#define UNIT shape
#define ACQUIRER new
#define NEW_UNIT new Circle
#define BYTES sizeof(Circle)
#define ALSO ""
static PAIRS_OWN_FRAME void refuse()
{
    if (pairs_yes)
        throw std::runtime_error("refused");
}
BAD(exception)
{
    try {
        shape v = LOST;
        USE(v);
        refuse();
        delete v;
    } catch (const std::runtime_error &) {
    }
}
GOOD(exception)
{
    try {
        std::unique_ptr<Shape> v{KEPT};
        USE(v);
        refuse();
    } catch (const std::runtime_error &) {
    }
}

struct Holder {
    shape held = nullptr;
    virtual ~Holder() = default;
};
struct Owner : Holder {
    ~Owner() override
    {
        delete held;
    }
};
BAD(destructor)
{
    Holder h;
    h.held = LOST;
    USE(h);
}
GOOD(destructor)
{
    Owner h;
    h.held = KEPT;
    USE(h);
}

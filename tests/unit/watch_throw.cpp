/* SPDX-License-Identifier: Apache-2.0 */
/* Exceptions pass through a watched function and what is below it. On each letter on descriptor 0:
 * acquires two handles, fails to acquire others, and answers with the letter, or '!' if an
 * exception did not arrive as it was thrown. Start: main. */
#include <stdexcept>
#include <string>
#include <unistd.h>

int make_handle(int wish, const std::string &name);

__attribute__((noinline)) int make_handle(int wish, const std::string &name)
{
    if (wish < 0)
        throw std::runtime_error(name);
    return wish;
}

static bool throws(int round)
{
    const std::string name = "no handle number " + std::to_string(round);
    try {
        make_handle(-1 - round, name);
    } catch (const std::runtime_error &e) {
        return e.what() == name;
    }
    return false;
}

int main()
{
    char what;
    while (read(0, &what, 1) == 1) {
        bool good = what == '-' || make_handle(1, "one") == 1;
        for (int i = 0; i < 100; i++)
            good = good && throws(i);
        good = good && (what == '-' || make_handle(2, "two") == 2);
        char answer = good ? what : '!';
        if (write(1, &answer, 1) != 1)
            return 1;
    }
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The packet codec, NDR and towers against vectors written out by hand; other tools have accepted
 * these bytes. Start: main. */
#include "../dg/ndr.h"
#include "../dg/tower.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static size_t unhex(const char *text, uint8_t *out)
{
    size_t n = 0;
    int half = -1;
    for (; *text; text++) {
        const char *digit = strchr("0123456789abcdef", *text);
        if (!digit)
            continue;
        int v = (int)(digit - "0123456789abcdef");
        if (half < 0) {
            half = v;
        } else {
            out[n++] = (uint8_t)(half << 4 | v);
            half = -1;
        }
    }
    return n;
}

static const char open_request[] = "04000000 10000000 00000000 00000000 00000000 00000000 b2b87db9 "
                                   "634ccf11 bff60800 2be23f2f 11111111 2222d011 9999aabb ccddeeff "
                                   "00000000 03000000 00000000 0000ffff ffff0000 00000000";
/* The same in the other representation, with flags, serial 0x1234, lengths and numbers set. */
static const char big_request[] = "04002e02 00000012 00000000 00000000 00000000 00000000 b97db8b2 "
                                  "4c6311cf bff60800 2be23f2f 11111111 222211d0 9999aabb ccddeeff "
                                  "3e75e000 00000003 00000007 000c0001 00020004 01020034 aabbccdd";

static const struct rpc_uuid activity = {
    0x11111111, 0x2222, 0x11d0, {0x99, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff}};

static void header_is_written_and_read(void **state)
{
    (void)state;
    uint8_t expected[128], out[DG_HEADER];
    struct dg_header h = {.ptype = DG_REQUEST,
                          .interface = rpc_clusapi.uuid,
                          .activity = activity,
                          .version = 3,
                          .ihint = DG_NO_HINT,
                          .ahint = DG_NO_HINT};
    assert_int_equal(unhex(open_request, expected), DG_HEADER);
    dg_header_write(&h, out);
    assert_memory_equal(out, expected, DG_HEADER);
    struct dg_header back;
    assert_int_equal(dg_header_read(&back, out, sizeof out), 0);
    assert_true(back.little && back.version == 3 && back.ihint == DG_NO_HINT);
    assert_true(rpc_uuid_equal(&back.activity, &activity));
    assert_true(rpc_uuid_equal(&back.interface, &rpc_clusapi.uuid));
}

static void big_endian_header_is_read(void **state)
{
    (void)state;
    uint8_t in[128];
    struct dg_header h;
    size_t n = unhex(big_request, in);
    assert_int_equal(n, 84);
    assert_int_equal(dg_header_read(&h, in, n), 0);
    assert_false(h.little);
    assert_int_equal(h.flags1, DG_LASTFRAG | DG_FRAG | DG_NOFACK | DG_IDEMPOTENT);
    assert_int_equal(h.flags2, DG_CANCEL_PENDING);
    assert_int_equal(h.serial, 0x1234);
    assert_int_equal(h.boot, 0x3e75e000);
    assert_int_equal(h.version, 3);
    assert_int_equal(h.seq, 7);
    assert_int_equal(h.opnum, 12);
    assert_int_equal(h.ihint, 1);
    assert_int_equal(h.ahint, 2);
    assert_int_equal(h.len, 4);
    assert_int_equal(h.frag, 0x102);
    assert_true(rpc_uuid_equal(&h.activity, &activity));
    assert_true(rpc_uuid_equal(&h.interface, &rpc_clusapi.uuid));
}

static void bad_headers_are_refused(void **state)
{
    (void)state;
    static const struct {
        size_t at;
        uint8_t value;
    } harm[] = {{0, 5}, {1, 11}, {3, 0xf4}, {4, 0x20}, {4, 0x11}, {5, 1}, {74, 1}, {75, 0xff}};
    struct dg_header h;
    for (size_t i = 0; i < sizeof harm / sizeof harm[0]; i++) {
        uint8_t in[128];
        unhex(open_request, in);
        in[harm[i].at] = harm[i].value;
        assert_int_equal(dg_header_read(&h, in, DG_HEADER), -EPROTO);
    }
    uint8_t in[128];
    unhex(open_request, in);
    assert_int_equal(dg_header_read(&h, in, DG_HEADER - 1), -EPROTO);
}

static void modular_order(void **state)
{
    (void)state;
    assert_true(dg_before32(1, 2) && !dg_before32(2, 1) && !dg_before32(5, 5));
    assert_true(dg_before32(0xffffffff, 0) && dg_before16(0xfffe, 3));
    assert_false(dg_before16(3, 0xfffe));
}

static void bodies(void **state)
{
    (void)state;
    uint8_t expected[64], out[64];
    struct dg_fack fack = {8, 4096, 1464, 1, 1, {2}}, back;
    size_t n = unhex("01000800 00100000 b8050000 01000100 02000000", expected);
    assert_int_equal(dg_fack_write(&fack, out), n);
    assert_memory_equal(out, expected, n);
    assert_int_equal(dg_fack_read(&back, out, n, true), 0);
    assert_true(back.window == 8 && back.max_tsdu == 4096 && back.max_frag == 1464);
    assert_true(back.serial == 1 && back.masks == 1 && back.mask[0] == 2);
    assert_int_equal(dg_fack_read(&back, out, n - 1, true), -EPROTO);
    assert_int_equal(dg_fack_read(&back, out, 15, true), -EPROTO);

    uint32_t id;
    bool yes;
    assert_int_equal(dg_quit_write(7, out), 8);
    assert_int_equal(dg_quit_read(&id, &yes, out, 8, true), 0);
    assert_true(id == 7 && !yes);
    assert_int_equal(dg_quit_read(&id, &yes, out, 0, true), 0);
    assert_true(yes);
    assert_int_equal(dg_quit_read(&id, &yes, out, 7, true), -EPROTO);
    assert_int_equal(dg_quack_write(9, true, out), 9);
    assert_int_equal(dg_quack_read(&id, &yes, out, 9, true), 0);
    assert_true(id == 9 && yes);
    assert_int_equal(dg_quack_read(&id, &yes, out, 8, true), -EPROTO);
    uint32_t status;
    assert_int_equal(dg_status_read(&status, (const uint8_t *)"\x1c\x01\x00\x03", 4, false), 0);
    assert_int_equal(status, NCA_UNK_IF);
}

static void ndr_round_trip(void **state)
{
    (void)state;
    struct ndr_out o = {0};
    struct rpc_context context = {activity};
    ndr_put8(&o, 1);
    ndr_put_wstring(&o, "abc");
    ndr_put_context(&o, &context);
    ndr_put_pointer(&o, true);
    ndr_put_pointer(&o, false);
    uint8_t expected[128];
    size_t n = unhex("01000000 04000000 00000000 04000000 6100 6200 6300 0000 "
                     "00000000 11111111 2222d011 9999aabb ccddeeff 00000200 00000000",
                     expected);
    assert_int_equal(o.len, n);
    assert_memory_equal(o.data, expected, n);

    struct ndr_in i = ndr_reader(o.data, o.len, true);
    char text[4];
    assert_int_equal(ndr_get8(&i), 1);
    ndr_get_wstring(&i, text, sizeof text);
    assert_string_equal(text, "abc");
    struct rpc_context c = ndr_get_context(&i);
    assert_true(rpc_uuid_equal(&c.uuid, &activity));
    assert_true(ndr_get_pointer(&i) && !ndr_get_pointer(&i) && !i.failed);
    ndr_get8(&i);
    assert_true(i.failed);
    ndr_out_free(&o);
}

static void ndr_refuses(void **state)
{
    (void)state;
    /* Too long for the caller; no NUL; NUL inside; offset; actual beyond max; endless. */
    static const char *const bad[] = {
        "05000000 00000000 05000000 6100 6100 6100 6100 0000",
        "02000000 00000000 02000000 6100 6100",
        "03000000 00000000 03000000 6100 0000 0000",
        "02000000 01000000 02000000 6100 0000",
        "01000000 00000000 02000000 6100 0000",
        "ffffffff 00000000 ffffffff 6100 0000",
        "02000000 00000000 00000000",
        "02000000 0000",
    };
    for (size_t k = 0; k < sizeof bad / sizeof bad[0]; k++) {
        uint8_t in[64];
        char text[4] = "xyz";
        struct ndr_in i = ndr_reader(in, unhex(bad[k], in), true);
        ndr_get_wstring(&i, text, sizeof text);
        assert_true(i.failed);
        assert_string_equal(text, "");
    }
}

static void towers(void **state)
{
    (void)state;
    uint8_t expected[128], out[TOWER_BYTES];
    size_t n = unhex("05001300 0db2b87d b9634ccf 11bff608 002be23f 2f020002 00000013 000d045d "
                     "888aeb1c c9119fe8 08002b10 48600200 02000000 01000a02 00000001 00080200 "
                     "13ec0100 0904000a 000002",
                     expected);
    assert_int_equal(n, TOWER_BYTES);
    struct tower t = {{rpc_clusapi.uuid, 2}, 0x0a000002, 5100}, back;
    tower_write(&t, out);
    assert_memory_equal(out, expected, n);
    assert_int_equal(tower_read(&back, out, n), 0);
    assert_true(back.port == 5100 && back.address == 0x0a000002 && back.interface.version == 2);
    for (size_t k = 0; k < n; k++)
        assert_int_equal(tower_read(&back, out, k), -EPROTO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(header_is_written_and_read),
        cmocka_unit_test(big_endian_header_is_read),
        cmocka_unit_test(bad_headers_are_refused),
        cmocka_unit_test(modular_order),
        cmocka_unit_test(bodies),
        cmocka_unit_test(ndr_round_trip),
        cmocka_unit_test(ndr_refuses),
        cmocka_unit_test(towers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

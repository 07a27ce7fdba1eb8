/* Tickets: the same bytes only for the same meaning. */
#include "crypto_test.h"

#include <string.h>

#include "crypto/ticket.h"

static struct pfx_buf bytes_of(const struct pfx_ticket *t)
{
    struct pfx_buf out = pfx_buf_make(65536);
    assert_true(pfx_ticket_bytes(t, &out));
    return out;
}

static bool same(const struct pfx_ticket *a, const struct pfx_ticket *b)
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf x = bytes_of(a);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf y = bytes_of(b);
    return x.len == y.len && memcmp(x.data, y.data, x.len) == 0;
}

static const char *const ab[] = {"a@x.test", "b@x.test"};

static struct pfx_ticket ticket(void)
{
    return (struct pfx_ticket){.user_id = "u1",
                               .salt = "0123456789abcde",
                               .addresses = ab,
                               .n_addresses = 2,
                               .purpose = PFX_PURPOSE_SIGNING,
                               .key_id = BYTES("key"),
                               .spki = BYTES("spki")};
}

/* The layout is kept for years in the store: a change of it must be seen. */
static void layout(void **state)
{
    (void)state;
    struct pfx_ticket t = ticket();
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf out = bytes_of(&t);
    static const char want[] = "\0\0\0\x13"
                               "pfx-agent ticket v1\0\0\0\x02u1\0\0\0\x10"
                               "0123456789abcde\0\0\0\0\x07signing\0\0\0\x03key\0\0\0\x04spki"
                               "\0\0\0\x02\0\0\0\x08"
                               "a@x.test\0\0\0\x08"
                               "b@x.test";
    assert_int_equal(out.len, sizeof want - 1);
    assert_memory_equal(out.data, want, sizeof want - 1);
}

static void order_and_case_dont_matter(void **state)
{
    (void)state;
    static const char *const ba[] = {"B@X.test", "A@x.TEST", "b@x.test"};
    struct pfx_ticket a = ticket(), b = ticket();
    b.addresses = ba;
    b.n_addresses = 3;
    assert_true(same(&a, &b));
}

static void everything_else_does(void **state)
{
    (void)state;
    static const char *const abc[] = {"a@x.test", "b@x.test", "c@x.test"};
    static const char *const shifted[] = {"a@x.testb", "@x.test"};
    struct pfx_ticket base = ticket(), t[9];
    for (size_t i = 0; i < 9; i++)
        t[i] = base;
    t[0].user_id = "u2";
    t[1].salt[15] ^= 1;
    t[2].n_addresses = 1;
    t[3].addresses = abc;
    t[3].n_addresses = 3;
    t[4].purpose = PFX_PURPOSE_DUAL;
    t[5].key_id = BYTES("keys"); /* with spki "pki" this would be the same without lengths */
    t[5].spki = BYTES("pki");
    t[6].spki = BYTES("spkj");
    t[7].addresses = shifted;
    t[8].n_addresses = 0;
    for (size_t i = 0; i < 9; i++)
        assert_false(same(&base, &t[i]));
}

static void ceiling_leaves_out_alone(void **state)
{
    (void)state;
    struct pfx_ticket t = ticket();
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf out = pfx_buf_make(40);
    assert_true(pfx_buf_add_str(&out, "kept"));
    assert_false(pfx_ticket_bytes(&t, &out));
    assert_string_equal(pfx_buf_str(&out), "kept");
}

static void address_sets(void **state)
{
    (void)state;
    static const char *const upper[] = {"B@X.TEST", "A@X.TEST"};
    static const char *const other[] = {"a@x.test", "c@x.test"};
    assert_true(pfx_addresses_equal(ab, 2, upper, 2));
    assert_false(pfx_addresses_equal(ab, 2, upper, 1));
    assert_false(pfx_addresses_equal(ab, 2, other, 2));
    assert_true(pfx_addresses_equal(NULL, 0, NULL, 0));
    assert_false(pfx_addresses_equal(ab, 1, NULL, 0));
    /* Only ASCII letters fold: U+0130 isn't i. */
    static const char *const dotted[] = {"\xC4\xB0@x.test"}, *const plain[] = {"i@x.test"};
    assert_false(pfx_addresses_equal(dotted, 1, plain, 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layout),
        cmocka_unit_test(order_and_case_dont_matter),
        cmocka_unit_test(everything_else_does),
        cmocka_unit_test(ceiling_leaves_out_alone),
        cmocka_unit_test(address_sets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

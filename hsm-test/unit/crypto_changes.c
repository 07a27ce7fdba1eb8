/* Changed lines, as people are shown them before they approve a policy or roster. */
#include "crypto_test.h"

#include <stdio.h>
#include <string.h>

#include "crypto/changes.h"

static struct pfx_bytes bytes(const char *text)
{
    return (struct pfx_bytes){(const uint8_t *)text, strlen(text)};
}

/* "-gone" and "+fresh", each list in its order. */
static void told(const char *old, const char *now, const char *expected)
{
    PFX_CLEANUP(pfx_changes_done) struct pfx_changes changes = {NULL, NULL, 0, 0};
    char text[2000] = "";
    size_t used = 0;
    pfx_changes_find(bytes(old), bytes(now), &changes);
    for (size_t i = 0; i < changes.n_gone; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "-%.*s",
                                 (int)changes.gone[i].len, (const char *)changes.gone[i].data);
    for (size_t i = 0; i < changes.n_fresh; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "+%.*s",
                                 (int)changes.fresh[i].len, (const char *)changes.fresh[i].data);
    assert_string_equal(text, expected);
}

static void lines_that_differ(void **state)
{
    (void)state;
    told("", "", "");
    told("a\nb\n", "a\nb\n", "");
    told("a\nb\n", "a\n\n\nb", ""); /* empty lines, and an end without LF */
    told("", "a\nb\n", "+a+b");
    told("a\nb\n", "", "-a-b");
    told("a\nb\nc\n", "a\nB\nc\n", "-b+B");
    told("a\nb\nc\nd\ne\n", "a\nc\nX\nd\n", "-b-e+X");
}

static void nothing_hides(void **state)
{
    (void)state;
    told("ann k1\nbob k2\n", "ann k1\nbob k2\nmallory k3", "+mallory k3"); /* no LF at the end */
    told("a\nb\nc\n", "a\nc\nb\n", "-b+b");                                 /* moved */
    told("signing:\n keep\ndual:\n go\n", "signing:\n go\ndual:\n keep\n", "- keep-dual:+dual:+ keep");
    told("a\nb\n", "a\nb\nb\n", "+b"); /* doubled */
    told("a\nb\nb\n", "a\nb\n", "-b");
}

/* Out of both, the same is left: also where there are too many for a table. */
static void what_is_left_is_the_same(void **state)
{
    (void)state;
    for (unsigned size = 1; size < 30000; size = size * 5 + 3) {
        struct pfx_buf old PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(1 << 20);
        struct pfx_buf now PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(1 << 20);
        PFX_CLEANUP(pfx_changes_done) struct pfx_changes changes = {NULL, NULL, 0, 0};
        for (unsigned i = 0; i < size; i++) {
            if (i % 3)
                assert_true(pfx_buf_addf(&old, "%u\n", i * 7919 % 50));
            if (i % 4)
                assert_true(pfx_buf_addf(&now, "%u\n", i * 104729 % 50));
        }
        (void)pfx_buf_str(&old); /* with its NUL: the bytes stay where they are */
        (void)pfx_buf_str(&now);
        pfx_changes_find(pfx_buf_bytes(&old), pfx_buf_bytes(&now), &changes);
        struct pfx_buf *texts[] = {&old, &now};
        struct pfx_buf left[2] = {pfx_buf_make(1 << 20), pfx_buf_make(1 << 20)};
        for (unsigned t = 0; t < 2; t++) {
            const struct pfx_bytes *out = t ? changes.fresh : changes.gone;
            size_t n = t ? changes.n_fresh : changes.n_gone, next = 0;
            const char *at = pfx_buf_str(texts[t]);
            for (; *at; at += strcspn(at, "\n") + 1) {
                if (next < n && (const char *)out[next].data == at)
                    next++;
                else
                    assert_true(pfx_buf_add(&left[t], at, strcspn(at, "\n") + 1));
            }
            assert_int_equal(next, n);
        }
        assert_string_equal(pfx_buf_str(&left[0]), pfx_buf_str(&left[1]));
        pfx_buf_done(&left[0]);
        pfx_buf_done(&left[1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_that_differ),
        cmocka_unit_test(nothing_hides),
        cmocka_unit_test(what_is_left_is_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

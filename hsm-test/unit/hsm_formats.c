/* pfx-hsm without a token: key references, pins, sealed secrets, ceilings, names, what is asked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "api/wire/messages.h"
#include "pkcs11/hsm/ask.h"
#include "pkcs11/hsm/ceiling.h"
#include "pkcs11/hsm/keyref.h"
#include "pkcs11/hsm/pinned.h"
#include "pkcs11/hsm/secrets.h"
#include "pkcs11/hsm/standing.h"

static void keyref_of(bool wrapped, struct pfx_keyref *ref)
{
    pfx_keyref_init(ref);
    ref->wrapped = wrapped;
    for (size_t i = 0; i < sizeof ref->id.bytes; i++)
        ref->id.bytes[i] = (uint8_t)(i * 17);
    assert_true(pfx_buf_add_str(&ref->spki, "a public key"));
    if (wrapped) {
        assert_true(pfx_buf_add_str(&ref->blob, "a blob"));
        memset(ref->mac, 0xA5, sizeof ref->mac);
    }
}

static void keyref_round_trip(void **state)
{
    (void)state;
    for (int wrapped = 0; wrapped < 2; wrapped++) {
        PFX_CLEANUP(pfx_keyref_done) struct pfx_keyref ref, back;
        PFX_CLEANUP(pfx_buf_done) struct pfx_buf text = pfx_buf_make(16384);
        struct pfx_error err = PFX_ERROR_NONE;
        keyref_of(wrapped != 0, &ref);
        pfx_keyref_init(&back);
        assert_true(pfx_ok(pfx_keyref_write(&ref, &text, &err)));
        assert_true(pfx_ok(pfx_keyref_parse(pfx_buf_str(&text), &back, &err)));
        assert_int_equal(back.wrapped, ref.wrapped);
        assert_memory_equal(back.id.bytes, ref.id.bytes, sizeof ref.id.bytes);
        assert_memory_equal(back.mac, ref.mac, sizeof ref.mac);
        assert_int_equal(back.blob.len, ref.blob.len);
        assert_string_equal(pfx_buf_str(&back.spki), "a public key");
        /* Every cut, and every doubled byte, is another text and refused or means another key. */
        for (size_t cut = 0; cut < text.len; cut++) {
            char *shorter PFX_AUTOFREE = pfx_strndup(pfx_buf_str(&text), cut);
            PFX_CLEANUP(pfx_keyref_done) struct pfx_keyref other;
            PFX_CLEANUP(pfx_buf_done) struct pfx_buf again = pfx_buf_make(16384);
            struct pfx_error ignored = PFX_ERROR_NONE;
            pfx_keyref_init(&other);
            if (pfx_ok(pfx_keyref_parse(shorter, &other, &ignored))) {
                assert_true(pfx_ok(pfx_keyref_write(&other, &again, &ignored)));
                assert_string_equal(pfx_buf_str(&again), shorter);
            } else {
                assert_int_equal(ignored.cls, PFX_CLASS_INTEGRITY);
            }
        }
    }
}

/* One reference, one spelling. */
static void keyref_has_one_spelling(void **state)
{
    (void)state;
    PFX_CLEANUP(pfx_keyref_done) struct pfx_keyref ref, back;
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf text = pfx_buf_make(16384);
    keyref_of(false, &ref);
    ref.id.bytes[0] = 0xAB;
    pfx_keyref_init(&back);
    assert_true(pfx_ok(pfx_keyref_write(&ref, &text, NULL)));
    assert_true(pfx_ok(pfx_keyref_parse(pfx_buf_str(&text), &back, NULL)));
    assert_memory_equal(text.data, "t1.ab", 5);
    text.data[3] = 'A';
    assert_true(pfx_failed(pfx_keyref_parse(pfx_buf_str(&text), &back, NULL)));
}

static void keyref_mac_binds_all(void **state)
{
    (void)state;
    PFX_CLEANUP(pfx_keyref_done) struct pfx_keyref ref;
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf a = pfx_buf_make(4096), b = pfx_buf_make(4096);
    keyref_of(true, &ref);
    assert_true(pfx_keyref_mac_bytes(&ref, "user", &a));
    assert_true(pfx_keyref_mac_bytes(&ref, "usera", &b));
    assert_true(a.len != b.len);
    static const char want[] = "\0\0\0\x18pfx-agent wrapped key v1\0\0\0\x04user\0\0\0\x10";
    assert_memory_equal(a.data, want, sizeof want - 1);
}

#define HEAD "pfx-agent pins v2\nserial 7\n"
#define MAC "0101010101010101010101010101010101010101010101010101010101010101"

static void pins_round_trip(void **state)
{
    (void)state;
    PFX_CLEANUP(pfx_pins_done) struct pfx_pins pins = PFX_PINS_NONE, back = PFX_PINS_NONE;
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf text = pfx_buf_make(4096);
    pins.serial = 7;
    struct pfx_pinned *pin = pfx_pins_add(&pins, 1, "key name", "A Provider");
    pin->state = PFX_STATE_COMPROMISED;
    pin->since_ms = 30;
    pin->activated_ms = 10;
    pin->compromised_ms = 30;
    pin->n_adopted = 3;
    memcpy(pin->adopted, "\x00\xab\xff", 3);
    pin->staged_ms = 9;
    pin->staged_uid = 1001;
    assert_true(pfx_buf_add_str(&pin->spki, "spki"));
    struct pfx_pin_connector *row = pfx_pinned_connector(pin, "CONN1");
    row->probed_ms = 8;
    memset(row->expected, 1, sizeof row->expected);
    assert_ptr_equal(pfx_pinned_connector(pin, "CONN1"), row);
    assert_false(pfx_pinned_confirmed(pin, "CONN1"));
    row->confirmed_ms = 9;
    struct pfx_pinned *next = pfx_pins_add(&pins, 2, "next", "A Provider");
    next->staged_ms = 40;
    next->scheduled = true;
    assert_true(pfx_pins_write(&pins, &text));
    assert_string_equal(pfx_buf_str(&text),
                        HEAD "generation 1\nstate compromised\nsince 30\nactivated 10\n"
                             "compromised 30\nadopted 00abff\nstaged 9 1001\n"
                             "key_name key name\n"
                             "provider_name A Provider\nspki c3BraQ==\n"
                             "connector CONN1 8 " MAC " 9\n"
                             "generation 2\nstate making\nsince 0\nstaged 40 0\n"
                             "scheduled by rotate_every\nkey_name next\n"
                             "provider_name A Provider\nspki \n");
    assert_true(pfx_pins_parse(pfx_buf_str(&text), text.len, &back));
    assert_int_equal(back.n, 2);
    assert_int_equal(back.serial, 7);
    assert_null(pfx_pins_active(&back));
    assert_int_equal(pfx_pins_find(&back, 1)->compromised_ms, 30);
    assert_int_equal(pfx_pins_find(&back, 1)->n_adopted, 3);
    assert_int_equal(pfx_pins_find(&back, 1)->staged_uid, 1001);
    assert_false(pfx_pins_find(&back, 1)->scheduled);
    assert_true(pfx_pins_find(&back, 2)->scheduled);
    assert_true(pfx_pinned_confirmed(pfx_pins_find(&back, 1), "CONN1"));
    assert_false(pfx_pinned_confirmed(pfx_pins_find(&back, 1), "CONN2"));
    assert_string_equal(pfx_pins_find(&back, 2)->key_name, "next");
    assert_null(pfx_pins_find(&back, 3));
    for (size_t cut = 0; cut < text.len; cut++) {
        PFX_CLEANUP(pfx_pins_done) struct pfx_pins part = PFX_PINS_NONE;
        if (!pfx_pins_parse(pfx_buf_str(&text), cut, &part))
            continue;
        PFX_CLEANUP(pfx_buf_done) struct pfx_buf again = pfx_buf_make(4096);
        assert_true(pfx_pins_write(&part, &again));
        assert_int_equal(again.len, cut);
    }
    /* What the rules make of them comes back. */
    struct pfx_generation list[PFX_GENERATIONS_MOST];
    assert_int_equal(pfx_pins_generations(&back, list), 2);
    assert_int_equal(list[0].compromised_ms, 30);
    pfx_lifecycle_apply(list, 2, 1, PFX_MOVE_DESTROY, 40);
    pfx_pins_take(&back, list);
    assert_int_equal(pfx_pins_find(&back, 1)->state, PFX_STATE_DESTROYED);
    assert_int_equal(pfx_pins_find(&back, 1)->since_ms, 40);
    assert_int_equal(pfx_pins_find(&back, 1)->compromised_ms, 30);
}

static void pins_refused(void **state)
{
    (void)state;
#define ONE(g, s, spki)                                                                            \
    "generation " g "\nstate " s "\nsince 5\nkey_name k\nprovider_name p\nspki " spki "\n"
#define GOOD ONE("1", "active", "c3BraQ==")
    static const char *const bad[] = {
        "",
        "pfx-agent pins v1\n",
        "pfx-agent pins v2\n",
        "pfx-agent pins v2\nserial 0\n",
        "pfx-agent pins v2\nserial 07\n",
        HEAD ONE("1", "active", ""),
        HEAD ONE("1", "making", "c3BraQ=="),
        HEAD ONE("01", "active", "c3BraQ=="),
        HEAD ONE("-1", "active", "c3BraQ=="),
        HEAD ONE("0", "active", "c3BraQ=="),
        HEAD ONE("1", "sleeping", "c3BraQ=="),
        HEAD ONE("1", "active", "c3Bra"),
        HEAD GOOD ONE("1", "making", ""),
        HEAD GOOD ONE("2", "active", "c3BraQ=="),
        HEAD GOOD "more\n",
        HEAD GOOD "connector C 1 " MAC "\n",
        HEAD GOOD "connector C 1 " MAC " 2 3\n",
        HEAD GOOD "connector C 1 01 2\n",
        HEAD GOOD "connector  1 " MAC " 2\n",
        HEAD GOOD "connector C 1 " MAC " 2\nconnector C 1 " MAC " 2\n",
        HEAD "generation 1\nstate active\nsince 5\nadopted AB\nkey_name k\nprovider_name p\n"
             "spki c3BraQ==\n",
        HEAD "generation 1\nstate active\nsince 5\ncompromised 5\nactivated 5\nkey_name k\n"
             "provider_name p\nspki c3BraQ==\n",
        HEAD "generation 1\nstate active\nsince 5\nstaged 0 1\nkey_name k\nprovider_name p\n"
             "spki c3BraQ==\n",
        HEAD "generation 1\nstate active\nsince 5\nstaged 5\nkey_name k\nprovider_name p\n"
             "spki c3BraQ==\n",
        HEAD "generation 1\nstate active\nsince 5\nscheduled by rotate_every\nkey_name k\n"
             "provider_name p\nspki c3BraQ==\n",
        HEAD "generation 1\nstate active\nsince 5\nstaged 5 0\nscheduled by hand\nkey_name k\n"
             "provider_name p\nspki c3BraQ==\n",
        HEAD "generation 1\nstate active\nsince 5\nactivated 0\nkey_name k\nprovider_name p\n"
             "spki c3BraQ==\n",
    };
    struct pfx_pins good = PFX_PINS_NONE;
    assert_true(pfx_pins_parse(HEAD GOOD, strlen(HEAD GOOD), &good));
    pfx_pins_done(&good);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct pfx_pins pins = PFX_PINS_NONE;
        if (pfx_pins_parse(bad[i], strlen(bad[i]), &pins))
            fail_msg("taken: %s", bad[i]);
    }
    /* A line feed in a name would write lines of its own. */
    PFX_CLEANUP(pfx_pins_done) struct pfx_pins pins = PFX_PINS_NONE;
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf text = pfx_buf_make(4096);
    pfx_pins_add(&pins, 1, "k\nstate active", "p");
    assert_false(pfx_pins_write(&pins, &text));
}

static void sealed_round_trip(void **state)
{
    (void)state;
    PFX_CLEANUP(pfx_sealed_done) struct pfx_sealed sealed, back;
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf text = pfx_buf_make(4096);
    pfx_sealed_init(&sealed);
    pfx_sealed_init(&back);
    memcpy(sealed.name, "digicert", 9);
    memset(sealed.sealed_to, 'a', 64);
    sealed.changed_ms = 1234567890123;
    assert_true(pfx_buf_add_str(&sealed.blocks[0], "one"));
    assert_true(pfx_buf_add_str(&sealed.blocks[1], "two"));
    sealed.n_blocks = 2;
    assert_true(pfx_sealed_write(&sealed, &text));
    assert_true(pfx_sealed_parse(pfx_buf_str(&text), text.len, &back));
    assert_int_equal(back.n_blocks, 2);
    assert_int_equal(back.changed_ms, 1234567890123);
    assert_string_equal(pfx_buf_str(&back.blocks[1]), "two");
    for (size_t cut = 0; cut < text.len; cut++) {
        PFX_CLEANUP(pfx_sealed_done) struct pfx_sealed part;
        pfx_sealed_init(&part);
        if (pfx_sealed_parse(pfx_buf_str(&text), cut, &part))
            assert_int_equal(part.n_blocks, 1);
    }
    assert_true(pfx_buf_add_str(&text, "sealed dHdv\n"));
    assert_false(pfx_sealed_parse(pfx_buf_str(&text), text.len, &back));
}

/* strtoll takes more than pfx_sealed_write writes. */
static void sealed_has_one_spelling(void **state)
{
    (void)state;
    static const struct {
        const char *number;
        bool good;
    } rows[] = {{"5", true},   {"0", true},   {"+5", false}, {" 5", false},
                {"05", false}, {"-5", false}, {"", false},   {"99999999999999999999", false}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        PFX_CLEANUP(pfx_sealed_done) struct pfx_sealed sealed;
        char text[256];
        pfx_sealed_init(&sealed);
        int n = snprintf(text, sizeof text,
                         "pfx-agent secret v1\nname digicert\nchanged %s\nsealed_to %064d\n"
                         "oaep sha256\nsealed b25l\n", rows[i].number, 0);
        assert_int_equal(pfx_sealed_parse(text, (size_t)n, &sealed), rows[i].good);
    }
}

static void ceilings_roll(void **state)
{
    (void)state;
    struct pfx_ceilings c;
    const int64_t minute = 60000;
    pfx_ceilings_init(&c);
    for (int i = 0; i < 3; i++)
        assert_true(pfx_ceiling_take(&c, PFX_CEILING_KEYS, 3, 10 * minute));
    assert_false(pfx_ceiling_take(&c, PFX_CEILING_KEYS, 3, 10 * minute));
    assert_true(pfx_ceiling_take(&c, PFX_CEILING_BUILDS, 3, 10 * minute)); /* each its own */
    assert_false(pfx_ceiling_take(&c, PFX_CEILING_KEYS, 3, 69 * minute));
    assert_false(pfx_ceiling_take(&c, PFX_CEILING_KEYS, 3, 70 * minute)); /* never under an hour */
    assert_true(pfx_ceiling_take(&c, PFX_CEILING_KEYS, 3, 71 * minute));
    assert_int_equal(pfx_ceiling_used(&c, PFX_CEILING_KEYS, 71 * minute), 1);
    assert_int_equal(pfx_ceiling_used(&c, PFX_CEILING_KEYS, 500 * minute), 0);
    assert_true(pfx_ceiling_take(&c, PFX_CEILING_KEYS, 1, 501 * minute));
    assert_false(pfx_ceiling_take(&c, PFX_CEILING_KEYS, 1, 502 * minute));
    pfx_ceiling_give_back(&c, PFX_CEILING_KEYS, 502 * minute); /* nothing was taken there */
    assert_false(pfx_ceiling_take(&c, PFX_CEILING_KEYS, 1, 502 * minute));
    pfx_ceiling_give_back(&c, PFX_CEILING_KEYS, 501 * minute);
    assert_true(pfx_ceiling_take(&c, PFX_CEILING_KEYS, 1, 502 * minute));
    pfx_ceiling_give_back(&c, PFX_CEILING_KEYS, 441 * minute); /* its place is another minute's */
    assert_int_equal(pfx_ceiling_used(&c, PFX_CEILING_KEYS, 502 * minute), 1);
    pfx_ceilings_done(&c);
}

static void ids(void **state)
{
    (void)state;
    struct pfx_app_conf apps[2] = {{(char *)(uintptr_t) "main", NULL},
                                   {(char *)(uintptr_t) "second", NULL}};
    struct pfx_hsm_policy policy = {.host_id = (char *)(uintptr_t) "host",
                                    .apps = apps,
                                    .n_apps = 2,
                                    .encryption_type = PFX_KEY_RSA_3072};
    size_t n = pfx_standing_count(&policy);
    struct pfx_standing_key keys[PFX_STANDING_MAX + 4];
    assert_int_equal(n, PFX_STANDING_CLIENT + 2);
    for (size_t i = 0; i < n; i++)
        pfx_standing_describe(&policy, i, &keys[i]);
    pfx_standing_encryption(&policy, 1, &keys[n++]);
    pfx_standing_log(&policy, PFX_STANDING_LOG, 2, &keys[n++]);
    pfx_standing_log(&policy, PFX_STANDING_LOG_ED25519, 2, &keys[n++]);
    pfx_standing_encryption(&policy, 2, &keys[n++]);
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < i; k++)
            assert_memory_not_equal(&keys[i].id, &keys[k].id, sizeof keys[i].id);
    assert_string_equal(keys[PFX_STANDING_CLIENT + 1].name, "client-second-1");
    assert_string_equal(keys[n - 1].label, "pfx-agent encryption-2");
    assert_string_equal(keys[n - 2].label, "pfx-agent host log-ed25519-2");
    assert_string_equal(keys[PFX_STANDING_ANCHOR_A].label, "pfx-agent host anchor-a-1");
    assert_string_equal(keys[PFX_STANDING_MAC].label, "pfx-agent mac-1");

    /* Each host has its own log keys, on a token that it may share; the other keys are shared. An
     * anchor has one generation. */
    struct pfx_standing_key elsewhere, again;
    struct pfx_hsm_policy second = policy;
    second.host_id = (char *)(uintptr_t) "host2";
    for (size_t i = 0; i < pfx_standing_count(&policy); i++) {
        pfx_standing_describe(&second, i, &elsewhere);
        bool same = memcmp(&elsewhere.id, &keys[i].id, sizeof keys[i].id) == 0;
        assert_int_equal(same, !pfx_standing_of_log(i));
    }
    pfx_standing_log(&policy, PFX_STANDING_ANCHOR_B, 7, &again);
    assert_memory_equal(&again.id, &keys[PFX_STANDING_ANCHOR_B].id, sizeof again.id);

    /* Kept for ever: with another derivation no key would be found again. */
    struct pfx_key_id id;
    static const char user[] = "00000000-0000-4000-8000-00000000000a";
    pfx_user_key_id("host", user, "signing", 42, 1, &id);
    static const uint8_t want[] = {0x86, 0xca, 0x6c, 0x04, 0x0a, 0xa6, 0xba, 0xd4,
                                   0xe8, 0x2d, 0x1c, 0xb5, 0xa3, 0x55, 0x51, 0xe5};
    assert_memory_equal(&id, want, sizeof want);
    struct pfx_key_id other;
    /* printf 'pfx-agent key v1|log|host/log|1' | sha256sum */
    static const uint8_t log_1[] = {0x47, 0x88, 0xb0, 0x26, 0x47, 0x58, 0x0c, 0xc5,
                                    0xa1, 0xef, 0x1d, 0xed, 0xd2, 0xef, 0x0e, 0x93};
    assert_memory_equal(&keys[PFX_STANDING_LOG].id, log_1, sizeof log_1);
    pfx_user_key_id("host", user, "signing", 42, 2, &other);
    assert_memory_not_equal(&id, &other, sizeof id);
    pfx_user_key_id("hos", user, "signing", 42, 1, &other);
    assert_memory_not_equal(&id, &other, sizeof id);
    pfx_user_key_id("host", user, "dual", 42, 1, &other);
    assert_memory_not_equal(&id, &other, sizeof id);
    pfx_user_key_id("host", "00000000-0000-4000-8000-00000000000b", "signing", 42, 1, &other);
    assert_memory_not_equal(&id, &other, sizeof id);
}

static void guids(void **state)
{
    (void)state;
    assert_true(pfx_guid_valid("00000000-0000-4000-8000-00000000000a"));
    assert_true(pfx_guid_valid("00000000-0000-4000-8000-00000000000A"));
    assert_false(pfx_guid_valid("00000000-0000-4000-8000-00000000000"));
    assert_false(pfx_guid_valid("00000000-0000-4000-8000-00000000000g"));
    assert_false(pfx_guid_valid("00000000x0000-4000-8000-000000000000"));
    assert_false(pfx_guid_valid(""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keyref_round_trip),
        cmocka_unit_test(keyref_has_one_spelling),
        cmocka_unit_test(keyref_mac_binds_all),
        cmocka_unit_test(pins_round_trip),
        cmocka_unit_test(pins_refused),
        cmocka_unit_test(sealed_round_trip),
        cmocka_unit_test(sealed_has_one_spelling),
        cmocka_unit_test(ceilings_roll),
        cmocka_unit_test(ids),
        cmocka_unit_test(guids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

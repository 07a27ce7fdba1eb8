/* Addresses, names, and the decision for one user. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "agent/address.h"
#include "agent/enrolment.h"
#include "agent/item.h"
#include "agent/name.h"
#include "agent/pass.h"
#include "agent/timing.h"
#include "api/wire/messages.h"

#define LIST(...)                                                                                  \
    ((const char *const[]){__VA_ARGS__}),                                                          \
        sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *)

static void takes(const char *mail, const char *const *proxies, size_t n, const char *expected)
{
    PFX_AUTOSTRINGS struct pfx_strings list = {0};
    struct pfx_error err = PFX_ERROR_NONE;
    char got[1000] = "";
    if (pfx_failed(pfx_addresses(mail, proxies, n, &list, &err)))
        fail_msg("%s: %s", mail, err.text);
    for (size_t i = 0; i < list.n; i++)
        snprintf(got + strlen(got), sizeof(got) - strlen(got), "%s%s", i ? " " : "", list.v[i]);
    assert_string_equal(got, expected);
}

static void refuses(const char *mail, const char *const *proxies, size_t n, const char *says)
{
    struct pfx_strings list;
    struct pfx_error err = PFX_ERROR_NONE;
    assert_int_equal(pfx_addresses(mail, proxies, n, &list, &err).cls, PFX_CLASS_REFUSED);
    assert_int_equal(list.n, 0);
    if (!strstr(err.text, says))
        fail_msg("%s: %s", says, err.text);
    assert_true(*pfx_next_step(err.text));
}

static void addresses(void **state)
{
    (void)state;
    takes("a@b.de", NULL, 0, "a@b.de");
    takes("A@b.de", LIST("SMTP:a@B.DE", "smtp:c@b.de", "Smtp:D@b.de"), "A@b.de c@b.de D@b.de");
    takes(NULL, LIST("smtp:c@b.de"), "c@b.de");
    takes("", LIST("smtp:", "smtp:c@b.de"), "c@b.de");
    takes("a@b.de", LIST("SIP:x@b.de", "X500:/o=x", "SPO:y", "x@b.de", "smtp"), "a@b.de");
    takes("a@b.de",
          LIST("smtp:a@x.onmicrosoft.com", "smtp:a@x.OnMicrosoft.COM", "smtp:a@onmicrosoft.com",
               "smtp:a@x.mail.onmicrosoft.com"),
          "a@b.de");
    takes("a@b.de",
          LIST("smtp:a@x.onmicrosoft.us", "smtp:a@x.partner.onmschina.cn", "smtp:a@x.onmicrosoft.de"),
          "a@b.de");
    takes("a@b.de", LIST("smtp:a@notonmicrosoft.com"), "a@b.de a@notonmicrosoft.com");
    takes("o'neil+x@b-c.de", NULL, 0, "o'neil+x@b-c.de");
    refuses(NULL, NULL, 0, "no mail address");
    refuses("a@x.onmicrosoft.com", NULL, 0, "no mail address");
    refuses("m\xc3\xbcller@b.de", NULL, 0, "m\xc3\xbcller@b.de");
    takes("a@b.de", LIST("smtp:a@b\xc3\xa4.de", "smtp:A@xn--b-0fa.DE"), "a@b.de a@xn--b-0fa.de");
    refuses("m\xc3\xbcller@b.de", NULL, 0, "outside ASCII");
    refuses("\"a b\"@b.de", NULL, 0, "quoted");
    refuses("a@b.de", LIST("smtp:a@xn--b-0fa\xc3\xa4.de"), "UTS #46");
    refuses("Alice <a@b.de>", NULL, 0, "isn't a mail address");
    refuses("a@localhost", NULL, 0, "isn't a mail address");
    refuses("a..b@b.de", NULL, 0, "isn't a mail address");
    refuses(".a@b.de", NULL, 0, "isn't a mail address");
    refuses("a@b.de.", NULL, 0, "isn't a mail address");
    refuses("a@-b.de", NULL, 0, "isn't a mail address");
    refuses("a@b.de\n", NULL, 0, "isn't a mail address");
    refuses("@b.de", NULL, 0, "isn't a mail address");
}

static void at_most_64(void **state)
{
    (void)state;
    char text[65][24];
    const char *proxies[65];
    struct pfx_strings list;
    struct pfx_error err = PFX_ERROR_NONE;
    for (int i = 0; i < 65; i++) {
        snprintf(text[i], sizeof(text[i]), "smtp:a%d@b.de", i);
        proxies[i] = text[i];
    }
    assert_true(pfx_ok(pfx_addresses(NULL, proxies, 64, &list, &err)));
    assert_int_equal(list.n, 64);
    pfx_strings_done(&list);
    assert_true(pfx_ok(pfx_addresses("A0@b.de", proxies, 64, &list, &err))); /* doubled */
    pfx_strings_done(&list);
    refuses(NULL, proxies, 65, "more than 64");
    refuses("x@b.de", proxies, 64, "more than 64");
}

static void json_lists(void **state)
{
    (void)state;
    PFX_AUTOSTRINGS struct pfx_strings list = {0}, back = {0};
    pfx_strings_add(&list, "a\"b\\c\n");
    pfx_strings_add(&list, "\xc3\xa4");
    char *json PFX_AUTOFREE = pfx_strings_json(&list);
    assert_true(pfx_strings_parse(json, &back));
    assert_int_equal(back.n, 2);
    assert_string_equal(back.v[0], list.v[0]);
    struct pfx_strings none = {0};
    assert_true(pfx_strings_parse(NULL, &none));
    assert_false(pfx_strings_parse("{}", &none));
    assert_false(pfx_strings_parse("[1]", &none));
    assert_false(pfx_strings_parse("[\"a\",null]", &none));
    assert_false(pfx_strings_parse("[", &none));
    assert_int_equal(none.n, 0);
}

static void becomes(struct pfx_names *names, const char *name, const char *expected)
{
    struct pfx_error err = PFX_ERROR_NONE;
    char *ascii PFX_AUTOFREE = NULL;
    pfx_result r = pfx_names_ascii(names, "surname", name, &ascii, &err);
    if (!expected) {
        assert_int_equal(r.cls, PFX_CLASS_REFUSED);
        assert_null(ascii);
        assert_non_null(strstr(err.text, "surname"));
        assert_true(*pfx_next_step(err.text));
        return;
    }
    if (pfx_failed(r))
        fail_msg("%s: %s", name, err.text);
    assert_string_equal(ascii, expected);
}

static void names_in_several_scripts(void **state)
{
    (void)state;
    struct pfx_names *names;
    struct pfx_error err = PFX_ERROR_NONE;
    assert_true(pfx_ok(pfx_names_open("Any-Latin; de-ASCII; Latin-ASCII", &names, &err)));
    becomes(names, "Alice", "Alice");
    becomes(names, "  O'Brien \t Smith ", "O'Brien Smith");
    becomes(names, "Müller", "Mueller");
    becomes(names, "Groß", "Gross");
    becomes(names, "Øystein Ångström", "Oystein Angstroem");
    becomes(names, "Łukasz Żółć", "Lukasz Zolc");
    becomes(names, "François", "Francois");
    becomes(names, "Достоевский", "Dostoevskij");
    becomes(names, "Παπαδόπουλος", "Papadopoulos");
    becomes(names, "山田", NULL); /* the rest is in agent_names.py */
    becomes(names, "Nguyễn", "Nguyen");
    becomes(names, "", NULL);
    becomes(names, "   ", NULL);
    becomes(names, "🙂", NULL);
    becomes(names, "a\x01", NULL);
    char sixty_four[66], sixty_five[66];
    memset(sixty_four, 'a', 64);
    sixty_four[64] = '\0';
    memset(sixty_five, 'a', 65);
    sixty_five[65] = '\0';
    becomes(names, sixty_four, sixty_four);
    becomes(names, sixty_five, NULL);
    pfx_names_close(names);
    pfx_names_close(NULL);
    assert_int_equal(pfx_names_open("No-Such-Thing", &names, &err).cls, PFX_CLASS_USAGE);
    assert_non_null(strstr(err.text, "ICU"));
}

static void person(struct pfx_names *names, const char *given, const char *surname, bool in_cn,
                   const char *expected, const char *says)
{
    struct pfx_error err = PFX_ERROR_NONE;
    char *first PFX_AUTOFREE = NULL, *last PFX_AUTOFREE = NULL;
    pfx_result r = pfx_names_person(names, given, surname, "secure_email_sponsor", in_cn, &first,
                                    &last, &err);
    if (!expected) {
        assert_int_equal(r.cls, PFX_CLASS_REFUSED);
        assert_null(first);
        assert_null(last);
        if (!strstr(err.text, says) || !*pfx_next_step(err.text))
            fail_msg("%s: %s", says, err.text);
        return;
    }
    if (pfx_failed(r))
        fail_msg("%s", err.text);
    char *both PFX_AUTOFREE = pfx_asprintf("%s|%s", first, last);
    assert_string_equal(both, expected);
}

/* People with one name, and names that are too long together. */
static void persons(void **state)
{
    (void)state;
    struct pfx_names *names;
    struct pfx_error err = PFX_ERROR_NONE;
    char forty[41];
    memset(forty, 'a', 40);
    forty[40] = '\0';
    assert_true(pfx_ok(pfx_names_open("Any-Latin; de-ASCII; Latin-ASCII", &names, &err)));
    person(names, "J\xc3\xb6rg", "M\xc3\xbcller", true, "Joerg|Mueller", NULL);
    person(names, "Suharto", NULL, true, NULL, "no surname, and secure_email_sponsor");
    person(names, "Suharto", " \t", true, NULL, "no surname");
    person(names, "", "Sukarno", true, NULL, "no given name, and");
    person(names, NULL, NULL, true, NULL, "no given name and no surname");
    person(names, "Anna", "\xf0\x9f\x99\x82", true, NULL, "the surname");
    person(names, "\xf0\x9f\x99\x82", "Anna", true, NULL, "the given name");
    person(names, "\xff", "Anna", true, NULL, "isn't UTF-8");
    person(names, forty, forty, true, NULL, "common name");
    char *both PFX_AUTOFREE = pfx_asprintf("%s|%s", forty, forty);
    person(names, forty, forty, false, both, NULL);
    char *fits PFX_AUTOFREE = pfx_asprintf("%s|%s", forty, forty + 17);
    person(names, forty, forty + 17, true, fits, NULL);
    person(names, forty, forty + 16, true, NULL, "64 characters");
    pfx_names_close(names);
}

#define NOW (20000 * PFX_DAY)
static struct pfx_rule_conf rule = {.name = "r", .product = "secure_email_mailbox"};
static const struct pfx_agent_conf conf = {.renew_before_ms = 30 * PFX_DAY,
                                           .max_orders_per_pass = 5,
                                           .max_orders_per_day = 9,
                                           .reorder_after_ms = 7 * PFX_DAY};

static void decides(struct pfx_case c, enum pfx_decision expected, const char *says)
{
    struct pfx_user_row user = {
        .enabled = true, .mail = (char *)(uintptr_t) "a@b.de", .proxies = (char *)(uintptr_t) "[]"};
    struct pfx_verdict v;
    if (!c.user)
        c.user = &user;
    if (!c.rule)
        c.rule = &rule;
    pfx_decide(&conf, NULL, &c, NOW, &v);
    if (v.decision != expected || !strstr(v.why, says))
        fail_msg("%d, not %d: %s (wanted: %s)", v.decision, expected, v.why, says);
    pfx_verdict_done(&v);
}

static void decisions(void **state)
{
    (void)state;
    const struct pfx_case plain = {
        .rule_read = true, .records_read = true, .records_started = NOW - 5};
    struct pfx_case c = plain;
    struct pfx_user_row user = {.mail = (char *)(uintptr_t) "a@b.de",
                                .proxies = (char *)(uintptr_t) "[]"};
    decides(c, PFX_DECIDE_ORDER, "no record");
    c.user = &user;
    decides(c, PFX_DECIDE_SKIP, "disabled");
    user.enabled = true;
    user.hire_date = NOW + PFX_DAY + 1;
    decides(c, PFX_DECIDE_WAIT, "starts work on 2024-10-05");
    user.hire_date = NOW + PFX_DAY;
    decides(c, PFX_DECIDE_ORDER, "");
    user.mail = NULL;
    decides(c, PFX_DECIDE_REFUSE, "no mail");
    user.proxies = (char *)(uintptr_t) "rubbish";
    decides(c, PFX_DECIDE_REFUSE, "damaged");
    c = plain;
    c.rule_read = false;
    decides(c, PFX_DECIDE_WAIT, "group");
    c = plain;
    c.records_read = false;
    decides(c, PFX_DECIDE_WAIT, "records");
    c.record_expires = NOW + 60 * PFX_DAY;
    decides(c, PFX_DECIDE_SKIP, "until 2024-12-03");
    c = plain;
    c.record_expires = NOW + 30 * PFX_DAY; /* not longer than renew_before */
    decides(c, PFX_DECIDE_ORDER, "its record in Intune ends on");
    c.record_expires = INT64_MAX;
    decides(c, PFX_DECIDE_SKIP, "without an end");
    c = plain;
    c.flight = 7;
    c.flight_state = "ORDERED";
    decides(c, PFX_DECIDE_SKIP, "enrolment 7 is in work (ORDERED)");
    c = plain;
    c.active = 8;
    c.active_expires = NOW + 60 * PFX_DAY;
    c.active_at = NOW; /* after the list was read: it can't be in it yet */
    decides(c, PFX_DECIDE_SKIP, "enrolment 8 is valid");
    c.active_at = NOW - 6;
    decides(c, PFX_DECIDE_REBUILD, "gone from Intune");
    c.active_expires = NOW + 10 * PFX_DAY;
    decides(c, PFX_DECIDE_ORDER, "its certificate ends on");
    c = plain;
    c.ended = 1;
    c.ended_at = NOW - 7 * PFX_DAY + 1;
    decides(c, PFX_DECIDE_WAIT, "1 time;");
    c.ended_at = NOW - 7 * PFX_DAY;
    decides(c, PFX_DECIDE_ORDER, "");
    c.ended = 2;
    decides(c, PFX_DECIDE_WAIT, "2 times");
    c = plain;
    struct pfx_mailboxes shared = {.read = false};
    c.mailboxes = &shared;
    decides(c, PFX_DECIDE_WAIT, "shared mailboxes");
    shared.read = true;
    decides(c, PFX_DECIDE_ORDER, "");
    pfx_strings_add(&shared.id, "team@b.de");
    pfx_strings_add(&shared.address, "j\xc3\xb6@b.de");
    decides(c, PFX_DECIDE_REFUSE, "the shared mailbox team@b.de");
    shared.read = false;
    c.record_expires = NOW + 60 * PFX_DAY; /* who needs nothing doesn't wait for Exchange */
    decides(c, PFX_DECIDE_SKIP, "until");
    pfx_mailboxes_done(&shared);
    c = plain;
    c.parked = 9;
    c.parked_why = "removed by operator anna (uid 7)";
    decides(c, PFX_DECIDE_SKIP, "enrolment 9 was removed by operator anna (uid 7)");
    decides(c, PFX_DECIDE_SKIP, "enrolment retry 9");
    c.record_expires = NOW + 60 * PFX_DAY; /* another record is as good */
    decides(c, PFX_DECIDE_SKIP, "until 2024-12-03");
    c = plain;
    c.active = 8;
    c.active_revoked = true;
    c.active_expires = NOW + 60 * PFX_DAY;
    c.active_at = NOW - 6; /* not rebuilt, though its record is gone */
    decides(c, PFX_DECIDE_SKIP, "enrolment 8 was revoked");
    c.active_expires = NOW + 10 * PFX_DAY;
    decides(c, PFX_DECIDE_ORDER, "its certificate ends on");
    c = plain;
    c.revoked = 8;
    decides(c, PFX_DECIDE_ORDER, "enrolment 8 was revoked");
    c.ended = 1; /* the order in its place was refused: it waits as any other */
    c.ended_at = NOW - PFX_DAY;
    decides(c, PFX_DECIDE_WAIT, "1 time;");
    c = plain;
    c.revoked = 8;
    c.today = 9;
    decides(c, PFX_DECIDE_HOLD, "9 orders a day");
    c = plain;
    user = (struct pfx_user_row){.damaged = true, .enabled = true};
    c.user = &user;
    decides(c, PFX_DECIDE_REFUSE, "damaged (salt)");
    c = plain;
    c.in_pass = 5;
    decides(c, PFX_DECIDE_HOLD, "5 orders a pass");
    c.in_pass = 0;
    c.today = 9;
    decides(c, PFX_DECIDE_HOLD, "9 orders a day");
}

static void chains(void **state)
{
    (void)state;
    struct pfx_buf chain PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(1000);
    struct pfx_bytes der;
    size_t pos = 0;
    assert_false(pfx_chain_next(pfx_buf_bytes(&chain), &pos, &der));
    pfx_chain_add(&chain, (struct pfx_bytes){(const uint8_t *)"abc", 3});
    pfx_chain_add(&chain, (struct pfx_bytes){(const uint8_t *)"de", 2});
    assert_true(pfx_chain_next(pfx_buf_bytes(&chain), &pos, &der));
    assert_int_equal(der.len, 3);
    assert_true(pfx_chain_next(pfx_buf_bytes(&chain), &pos, &der));
    assert_memory_equal(der.data, "de", 2);
    assert_false(pfx_chain_next(pfx_buf_bytes(&chain), &pos, &der));
    pos = 0;
    chain.data[3] = 200; /* longer than what is there */
    assert_false(pfx_chain_next(pfx_buf_bytes(&chain), &pos, &der));
}

static void items_never_break(void **state)
{
    (void)state;
    const struct pfx_wire_pair *status = pfx_wire_find(pfx_wire_agent, "status");
    char longest[2001];
    for (size_t cut = 0; cut < 4; cut++) {
        struct pfx_msg *body PFX_AUTOMSG = pfx_msg_new(status->result);
        struct pfx_buf out PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(65536);
        struct pfx_error err = PFX_ERROR_NONE;
        memset(longest, 'x', cut);
        for (size_t i = cut; i + 1 < 2000; i += 2)
            memcpy(longest + i, "\xc3\xa4", 2);
        longest[1998] = '\0';
        longest[10] = '\x01';
        pfx_msg_set_str(body, "kind", "trouble");
        pfx_item_str(body, "name", longest, 128);
        pfx_item_trouble(body, "what", longest);
        pfx_item_str(body, "value", NULL, 10);
        assert_true(pfx_ok(pfx_msg_encode(body, false, &out, &err)));
    }
    struct pfx_msg *body PFX_AUTOMSG = pfx_msg_new(status->result);
    pfx_item_trouble(body, "what", "it broke. Next: mend it.");
    assert_string_equal(pfx_msg_str(body, "what"), "it broke.");
    assert_string_equal(pfx_msg_str(body, "next"), "mend it.");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses),  cmocka_unit_test(at_most_64),
        cmocka_unit_test(json_lists), cmocka_unit_test(names_in_several_scripts),
        cmocka_unit_test(decisions),  cmocka_unit_test(chains),
        cmocka_unit_test(items_never_break),
        cmocka_unit_test(persons),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * What pfx-hsm gets back from others, or finds in its own folder: key references, pins, sealed
 * secrets, notes for the log, token URIs, tickets, questions for approvals, the policy in force. The
 * first line says which.
 */
#include <strings.h>

#include "api/wire/messages.h"
#include "crypto/entry.h"
#include "crypto/ticket.h"
#include "fuzz.h"
#include "pkcs11/hsm/approvals_impl.h"
#include "pkcs11/hsm/begun_form.h"
#include "pkcs11/hsm/force_form.h"
#include "pkcs11/hsm/journal.h"
#include "pkcs11/hsm/keyref.h"
#include "pkcs11/hsm/pinned.h"
#include "pkcs11/hsm/rotation.h"
#include "pkcs11/hsm/secrets.h"
#include "pkcs11/module.h"

/* One reference, one spelling. */
static void try_keyref(struct pfx_bytes bytes)
{
    PFX_AUTOFREE char *text = text_of(bytes);
    PFX_CLEANUP(pfx_keyref_done) struct pfx_keyref ref;
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf again = pfx_buf_make(strlen(text) + 1);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf maced = pfx_buf_make(32768);
    struct pfx_error err = PFX_ERROR_NONE;
    pfx_keyref_init(&ref);
    if (pfx_failed(pfx_keyref_parse(text, &ref, &err))) {
        must(err.cls == PFX_CLASS_INTEGRITY && ref.spki.len == 0);
        must_say(&err);
        return;
    }
    must(ref.spki.len > 0 && (ref.blob.len > 0) == ref.wrapped);
    must(pfx_ok(pfx_keyref_write(&ref, &again, &err)));
    must(strcmp(pfx_buf_str(&again), text) == 0);
    must(pfx_keyref_mac_bytes(&ref, "6f9619ff-8b86-4011-b42d-00c04fc964ff", &maced));
}

static void try_pins(struct pfx_bytes bytes)
{
    PFX_CLEANUP(pfx_pins_done) struct pfx_pins pins = PFX_PINS_NONE;
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf again = pfx_buf_make(bytes.len + 1);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf json = pfx_buf_make(65536);
    size_t active = 0;
    if (!pfx_pins_parse(bytes.data ? (const char *)bytes.data : "", bytes.len, &pins)) {
        must(pins.n == 0);
        return;
    }
    must(pfx_pins_write(&pins, &again) && same(pfx_buf_bytes(&again), bytes));
    for (size_t i = 0; i < pins.n; i++) {
        must(pfx_pins_find(&pins, pins.list[i].generation) == &pins.list[i]);
        must(pfx_key_state_name(pins.list[i].state)[0] != '\0');
        must((pins.list[i].spki.len == 0) == (pins.list[i].state == PFX_STATE_MAKING));
        must(pins.list[i].n_adopted <= PFX_ADOPTED_ID_MOST);
        for (size_t c = 0; c < pins.list[i].n_connectors; c++)
            must(pfx_pinned_connector(&pins.list[i], pins.list[i].connectors[c].name) ==
                 &pins.list[i].connectors[c]);
        active += pins.list[i].state == PFX_STATE_ACTIVE;
    }
    must(active <= 1 && (active == 1) == (pfx_pins_active(&pins) != NULL));
    must(pfx_pins_usable(&pins) || active == 0);
    if (pins.n > 0 && pins.list[0].n_connectors > 0)
        must(pfx_pinned_confirmed(&pins.list[0], pins.list[0].connectors[0].name) ==
             (pins.list[0].connectors[0].confirmed_ms > 0));
    must(pins.n == 0 || !pfx_pinned_confirmed(&pins.list[0], ""));
    struct pfx_generation list[PFX_GENERATIONS_MOST];
    must(pfx_pins_generations(&pins, list) == pins.n);
    pfx_pins_take(&pins, list);
    pfx_buf_reset(&again);
    must(pfx_pins_write(&pins, &again) && same(pfx_buf_bytes(&again), bytes));
    pfx_journal_pins(&pins, &json);
}

/* Generations of the standing keys: one text, one spelling, and one active generation of each. */
static void try_standing(struct pfx_bytes bytes)
{
    struct pfx_rotation *rotation PFX_AUTOFREE = pfx_alloc(sizeof *rotation);
    struct pfx_rotation *fresh PFX_AUTOFREE = pfx_alloc(sizeof *fresh);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf again = pfx_buf_make(bytes.len + 1);
    if (!pfx_rotation_parse(bytes.data ? (const char *)bytes.data : "", bytes.len, rotation))
        return;
    must(pfx_rotation_write(rotation, &again) && same(pfx_buf_bytes(&again), bytes));
    for (size_t i = 0; i < rotation->n; i++) {
        struct pfx_overlap list[PFX_OVERLAP_MOST];
        size_t n = pfx_rotation_of(rotation, rotation->rows[i].stem, list);
        must(pfx_overlap_in(list, n, PFX_OVERLAP_ACTIVE) > 0);
        must(pfx_rotation_put(rotation, rotation->rows[i].stem, list, n));
        must(pfx_rotation_put(fresh, rotation->rows[i].stem, list, n));
    }
    must(fresh->n == rotation->n);
    must(pfx_rotation_epoch(fresh) == pfx_rotation_epoch(rotation));
    pfx_buf_reset(&again);
    must(pfx_rotation_write(rotation, &again) && same(pfx_buf_bytes(&again), bytes));
}

static void try_sealed(struct pfx_bytes bytes)
{
    PFX_CLEANUP(pfx_sealed_done) struct pfx_sealed sealed;
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf again = pfx_buf_make(bytes.len + 1);
    pfx_sealed_init(&sealed);
    if (!pfx_sealed_parse(bytes.data ? (const char *)bytes.data : "", bytes.len, &sealed)) {
        must(sealed.n_blocks == 0);
        return;
    }
    must(sealed.n_blocks > 0 && sealed.n_blocks <= PFX_SECRET_BLOCKS);
    must(pfx_sealed_write(&sealed, &again) && same(pfx_buf_bytes(&again), bytes));
}

/* A body of notes, as pfx-agentd sends it: what is taken can be written, and is marked as its. */
static void try_notes(struct pfx_bytes bytes)
{
    static struct pfx_draft draft;
    static const uint8_t hash[PFX_HASH_SIZE];
    struct pfx_error err = PFX_ERROR_NONE;
    PFX_AUTOMSG struct pfx_msg *body = NULL;
    const struct pfx_wire_schema *schema = pfx_wire_find(pfx_wire_jobs, "hsm.log")->request;
    if (pfx_failed(pfx_msg_decode(schema, (const char *)bytes.data, bytes.len, &body, NULL)))
        return;
    for (size_t i = 0; i < pfx_msg_count(body, "notes"); i++) {
        struct pfx_error why = PFX_ERROR_NONE;
        if (pfx_failed(pfx_journal_note(pfx_msg_obj_at(body, "notes", i), &draft, &why))) {
            must(why.cls == PFX_CLASS_REFUSED);
            must_say(&why);
            continue;
        }
        pfx_draft_int(&draft, PFX_F_SEQ, 0);
        pfx_draft_int(&draft, PFX_F_UP, 0);
        pfx_draft_str(&draft, PFX_F_OP, "01ARYZ6S41TSV4RRFFQ69G5FAV");
        pfx_draft_time(&draft, PFX_F_TIME, 0);
        pfx_draft_str(&draft, PFX_F_BOOT, "6f9619ff-8b86-4011-b42d-00c04fc964ff");
        pfx_draft_hex(&draft, PFX_F_PREV, hash, sizeof hash);
        PFX_CLEANUP(pfx_buf_done) struct pfx_buf json = pfx_buf_make(PFX_ENTRY_MAX);
        struct pfx_entry entry;
        must(pfx_ok(pfx_entry_write(&draft.entry, &json, &err)));
        must(pfx_ok(pfx_entry_read(pfx_buf_bytes(&json), &entry, &err)));
        must(pfx_entry_is(&entry, PFX_F_SRC, "agentd") && entry.n_unknown == 0);
        struct pfx_journal_open open;
        pfx_journal_open_read(0, &entry, &open);
        pfx_journal_unknown(&open, &draft);
    }
}

static void try_uri(struct pfx_bytes bytes)
{
    PFX_AUTOFREE char *text = text_of(bytes);
    struct pfx_error err = PFX_ERROR_NONE;
    if (pfx_ok(pfx_uri_check(text, "users", &err))) {
        must(strncasecmp(text, "pkcs11:", 7) == 0);
        must(!strchr(text, '?')); /* PINs and modules stand behind it */
        must(!strstr(text, ";slot-id=") && strncmp(text + 7, "slot-id=", 8) != 0);
        return;
    }
    must_say(&err);
    /* What is refused may hold a PIN. */
    must(strlen(text) < 24 || !strstr(err.text, text));
}

/* A line each: user id, then addresses; in whatever order and case they come, the bytes are the
 * same, and they say where each ends. */
static void try_ticket(struct pfx_bytes rest)
{
    char *words[20];
    const char *turned[20];
    size_t n = 0;
    PFX_AUTOFREE char *user = text_of(take_until(&rest, '\n'));
    while (rest.len > 0 && n < 20)
        words[n++] = text_of(take_until(&rest, '\n'));
    struct pfx_ticket ticket = {
        .user_id = user,
        .addresses = (const char *const *)words,
        .n_addresses = n,
        .purpose = (enum pfx_purpose)(n % 3),
        .key_id = {(const uint8_t *)user, strlen(user)},
        .spki = {(const uint8_t *)"spki", 4},
    };
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf one = pfx_buf_make(65536);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf two = pfx_buf_make(65536);
    bool good = pfx_ticket_bytes(&ticket, &one);
    for (size_t i = 0; i < n; i++) {
        turned[i] = words[n - 1 - i];
        for (char *c = words[i]; *c; c++)
            *c = (char)(*c >= 'a' && *c <= 'z' ? *c - 'a' + 'A' : *c);
    }
    ticket.addresses = turned;
    must(good == pfx_ticket_bytes(&ticket, &two));
    must(same(pfx_buf_bytes(&one), pfx_buf_bytes(&two)));
    must(pfx_addresses_equal((const char *const *)words, n, turned, n));
    if (n > 0 && good) {
        pfx_buf_reset(&two);
        ticket.n_addresses = n - 1;
        bool fewer = pfx_ticket_bytes(&ticket, &two);
        must(fewer && same(pfx_buf_bytes(&one), pfx_buf_bytes(&two)) ==
                          pfx_addresses_equal((const char *const *)words, n, turned, n - 1));
    }
    for (size_t i = 0; i < n; i++)
        free(words[i]);
}

/* One line, one spelling, and an ID that leads to its nonce. */
static void try_question(struct pfx_bytes line)
{
    struct pfx_question *question PFX_AUTOFREE = pfx_alloc(sizeof *question);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf again = pfx_buf_make(line.len + 1);
    pfx_approval_init(&question->approval);
    if (pfx_question_parse(line, question)) {
        must(pfx_question_write(question, &again) && same(pfx_buf_bytes(&again), line));
        must(strlen(question->id) == 8 &&
             strncmp(question->approval.statement.nonce, question->id, 8) == 0);
    }
    pfx_approval_done(&question->approval);
}

static void try_force(struct pfx_bytes bytes)
{
    PFX_CLEANUP(pfx_force_text_done) struct pfx_force_text text = pfx_force_text_make();
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf again = pfx_buf_make(PFX_FORCE_FILE_MAX);
    const char *why = pfx_force_parse(bytes, &text);
    must(!why || why[strlen(why) - 1] == '.');
    if (why)
        return;
    must(text.covered < bytes.len && text.mac.len == 32);
    must(pfx_force_write(pfx_buf_bytes(&text.policy), pfx_buf_bytes(&text.roster), &again));
    must(same(pfx_buf_bytes(&again), (struct pfx_bytes){bytes.data, text.covered}));
    pfx_force_seal(text.mac.data, &again);
    must(again.len == bytes.len); /* the digits of a MAC may be in either case */
}

static void try_begun(struct pfx_bytes bytes)
{
    struct pfx_begun_text text;
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf again = pfx_buf_make(bytes.len + 1);
    if (!pfx_begun_parse(bytes, &text)) {
        must(text.covered.len == 0 && text.from == 0 && !text.origin[0]);
        return;
    }
    pfx_begun_head(text.origin, text.from, &again);
    must(again.len <= bytes.len && memcmp(again.data, bytes.data, again.len) == 0);
    if (text.covered.len == 0)
        return;
    must(again.len + text.record.len == text.covered.len);
    must(pfx_buf_add(&again, text.record.data, text.record.len) && pfx_begun_seal(text.mac, &again));
    must(again.len == bytes.len); /* the digits of a MAC may be in either case */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct {
        const char *name;
        void (*try)(struct pfx_bytes bytes);
    } kinds[] = {{"keyref", try_keyref}, {"pins", try_pins}, {"sealed", try_sealed},
                 {"notes", try_notes},   {"uri", try_uri},   {"ticket", try_ticket},
                 {"standing", try_standing}, {"question", try_question}, {"force", try_force},
                 {"begun", try_begun}};
    struct pfx_bytes rest = {data, size};
    struct pfx_bytes word = take_until(&rest, '\n');
    size_t kind = any_of(word, sizeof kinds / sizeof *kinds);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (is_word(word, kinds[i].name))
            kind = i;
    kinds[kind].try(rest);
    return 0;
}

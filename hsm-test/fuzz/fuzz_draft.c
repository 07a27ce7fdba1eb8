/*
 * Text from outside on its way into an entry: whatever it is, the entry can be written, is read
 * again, and nothing in it is longer than its row allows. The first byte of the input says into
 * which member the rest goes.
 */
#include <string.h>

#include "crypto/entry.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
    if (!holds)
        __builtin_trap();
}

static bool takes_text(enum pfx_field field)
{
    enum pfx_field_type type = pfx_fields[field].type;
    return (type == PFX_T_STR || type == PFX_T_TEXT || type == PFX_T_WORD) && field != PFX_F_SRC &&
           field != PFX_F_PHASE && field != PFX_F_OUTCOME;
}

static void fill(struct pfx_draft *draft, const char *text)
{
    static const uint8_t hash[PFX_HASH_SIZE];
    pfx_draft_init(draft, PFX_SRC_AGENTD, "command", PFX_PHASE_NOTE, PFX_OUTCOME_OK);
    pfx_draft_int(draft, PFX_F_SEQ, 0);
    pfx_draft_int(draft, PFX_F_UP, 0);
    pfx_draft_time(draft, PFX_F_TIME, 0);
    pfx_draft_str(draft, PFX_F_BOOT, text);
    pfx_draft_str(draft, PFX_F_ACTOR_ROLE, "operator");
    pfx_draft_str(draft, PFX_F_OP, "01ARYZ6S41TSV4RRFFQ69G5FAV");
    pfx_draft_hex(draft, PFX_F_PREV, hash, sizeof hash);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct pfx_draft draft;
    struct pfx_error err = PFX_ERROR_NONE;
    struct pfx_entry entry;
    if (size == 0)
        return 0;
    enum pfx_field field = (enum pfx_field)(data[0] % PFX_FIELD_COUNT);
    PFX_AUTOFREE char *text = pfx_strndup((const char *)data + 1, size - 1);
    fill(&draft, text);
    bool set = takes_text(field);
    bool mandatory = pfx_entry_has(&draft.entry, field);
    if (set)
        pfx_draft_str(&draft, field, text);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf json = pfx_buf_make(PFX_ENTRY_MAX);
    must(pfx_ok(pfx_entry_write(&draft.entry, &json, &err)));
    must(pfx_ok(pfx_entry_read(pfx_buf_bytes(&json), &entry, &err)));
    must(entry.n_unknown == 0 && memcmp(entry.has, draft.entry.has, sizeof entry.has) == 0);
    bool word = set && pfx_fields[field].type == PFX_T_WORD;
    must(!set || pfx_entry_has(&entry, field) == (mandatory || !word || text[0] != '\0'));
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf plain = pfx_buf_make(PFX_ENTRY_MAX);
    if (!set || !pfx_entry_plain(&entry, field, &plain))
        return 0;
    must(plain.len <= pfx_fields[field].max);
    for (size_t i = 0; i < plain.len; i++)
        must((plain.data[i] >= 0x20 && plain.data[i] != 0x7F) ||
             (plain.data[i] == '\n' && pfx_fields[field].type == PFX_T_TEXT));
    return 0;
}

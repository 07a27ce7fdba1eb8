/* The text of the standing keys' generations. */
#include "pkcs11/hsm/rotation.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "crypto/encode.h"

#define HEADER "pfx-agent standing keys v1\n"

size_t pfx_rotation_of(const struct pfx_rotation *rotation, const char *stem,
                       struct pfx_overlap ret_list[PFX_OVERLAP_MOST])
{
    size_t n = 0;
    for (size_t i = 0; i < rotation->n && n < PFX_OVERLAP_MOST; i++)
        if (strcmp(rotation->rows[i].stem, stem) == 0)
            ret_list[n++] = rotation->rows[i].at;
    if (n == 0)
        ret_list[n++] = (struct pfx_overlap){1, PFX_OVERLAP_ACTIVE, 0};
    return n;
}

int64_t pfx_rotation_epoch(const struct pfx_rotation *rotation)
{
    static const char *const stems[] = {"wrapping", "mac"};
    int64_t epoch = 0;
    for (size_t s = 0; s < sizeof stems / sizeof *stems; s++) {
        struct pfx_overlap list[PFX_OVERLAP_MOST];
        size_t n = pfx_rotation_of(rotation, stems[s], list);
        for (size_t i = 0; i < n; i++)
            if (list[i].state == PFX_OVERLAP_ACTIVE && list[i].since_ms > epoch)
                epoch = list[i].since_ms;
    }
    return epoch;
}

bool pfx_rotation_put(struct pfx_rotation *rotation, const char *stem,
                      const struct pfx_overlap *list, size_t n)
{
    char own[PFX_STEM_SIZE]; /* stem may be a row's */
    size_t at = 0, len = strlen(stem);
    if (len >= sizeof own)
        return n == 0;
    memcpy(own, stem, len + 1);
    for (size_t i = 0; i < n; i++) {
        while (at < rotation->n && strcmp(rotation->rows[at].stem, own) != 0)
            at++;
        if (at == PFX_ROTATION_MOST)
            return false;
        if (at == rotation->n)
            rotation->n++;
        memcpy(rotation->rows[at].stem, own, len + 1);
        rotation->rows[at++].at = list[i];
    }
    return true;
}

bool pfx_rotation_write(const struct pfx_rotation *rotation, struct pfx_buf *out)
{
    bool ok = pfx_buf_addf(out, HEADER "serial %" PRId64 "\n", rotation->serial);
    for (size_t i = 0; ok && i < rotation->n; i++) {
        const struct pfx_rotation_row *row = &rotation->rows[i];
        ok = pfx_buf_addf(out, "key %s %u %s %" PRId64 "\n", row->stem, row->at.number,
                          pfx_overlap_state_name(row->at.state), row->at.since_ms);
    }
    return ok;
}

/* The next word, which `end` closes; NULL: there is none. The text goes on behind it. */
static const char *word(char **text, char end)
{
    char *at = *text, *close = strchr(at, end);
    if (!close)
        return NULL;
    *close = '\0';
    *text = close + 1;
    return at;
}

/* Digits alone; whether they are spelled as they ought to be, the writer finds out. */
static bool number(const char *text, int64_t most, int64_t *ret)
{
    if (!text || strlen(text) > 15 || strspn(text, "0123456789") != strlen(text))
        return false;
    *ret = strtoll(text, NULL, 10);
    return *ret <= most;
}

static bool row_parse(char **text, struct pfx_rotation_row *row)
{
    const char *key = word(text, ' '), *stem = key ? word(text, ' ') : NULL;
    const char *generation = stem ? word(text, ' ') : NULL, *state = stem ? word(text, ' ') : NULL;
    const char *since = state ? word(text, '\n') : NULL;
    int64_t no = 0;
    if (!since || strcmp(key, "key") != 0 || strlen(stem) >= PFX_STEM_SIZE || !*stem ||
        !number(generation, 999999, &no) || no == 0 ||
        !pfx_overlap_state_parse(state, strlen(state), &row->at.state) ||
        !number(since, INT64_MAX, &row->at.since_ms))
        return false;
    row->at.number = (unsigned)no;
    snprintf(row->stem, sizeof row->stem, "%s", stem);
    return true;
}

/* Each key has every generation once, from the first on, and one of them active. */
static bool sound(const struct pfx_rotation *rotation)
{
    for (size_t i = 0; i < rotation->n; i++) {
        unsigned active = 0, before = 0, all = 0;
        for (size_t k = 0; k < rotation->n; k++) {
            const struct pfx_rotation_row *row = &rotation->rows[k];
            if (strcmp(row->stem, rotation->rows[i].stem) != 0)
                continue;
            active += row->at.state == PFX_OVERLAP_ACTIVE;
            before += k < i;
            all++;
        }
        if (active != 1 || rotation->rows[i].at.number != before + 1 || all > PFX_OVERLAP_MOST)
            return false;
    }
    return true;
}

bool pfx_rotation_parse(const char *text, size_t len, struct pfx_rotation *ret)
{
    char *copy PFX_AUTOFREE = pfx_strndup(text, len);
    char *at = copy + strlen(HEADER);
    struct pfx_rotation *found PFX_AUTOFREE = pfx_alloc(sizeof *found);
    if (strlen(copy) != len || strncmp(copy, HEADER "serial ", strlen(HEADER "serial ")) != 0)
        return false;
    at += strlen("serial ");
    if (!number(word(&at, '\n'), INT64_MAX, &found->serial))
        return false;
    while (*at) {
        if (found->n == PFX_ROTATION_MOST || !row_parse(&at, &found->rows[found->n]))
            return false;
        found->n++;
    }
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf again = pfx_buf_make(len + 1);
    if (!sound(found) || !pfx_rotation_write(found, &again) || again.len != len ||
        memcmp(again.data, text, len) != 0)
        return false;
    *ret = *found;
    return true;
}

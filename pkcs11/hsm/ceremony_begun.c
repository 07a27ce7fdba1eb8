/*
 * The mark of a ceremony whose page isn't there yet: .NAME.begun, in the folder of the pages.
 *
 *   pfx-agent ceremony begun v1
 *   log <origin of the log at its beginning, or "-">
 *   from <the first entry that may be of it>
 *   <the record as far as it had come (crypto/minutes.h)>
 *   mac <hex>
 *
 * The last two are there where the MAC key is; only under it the record's words are believed, so
 * nobody gets words of his own onto a page by putting a file there. Without them a mark says no more
 * than where in the log to look.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "api/conf/process.h"
#include "pkcs11/hsm/begun_form.h"
#include "pkcs11/hsm/ceremony_record.h"
#include "pkcs11/hsm/rotation.h"

#define ENDING ".begun"
#define TIME_DIGITS 19        /* "20261123T130000123Z" */

static const char *const kinds[] = {"init",           "key.rotate",     "key.destroy", "standing.rotate",
                                    "standing.destroy", "log.rotate_key", "log.reopen",  NULL};

static char *path_of(const struct pfx_record_maker *maker, const char *name)
{
    return pfx_asprintf("%s/.%s" ENDING, maker->folder, name);
}

/* The kind at the end of a page's name; NULL: no name of ours. */
static const char *kind_of(const char *name)
{
    if (strlen(name) < TIME_DIGITS + 2 || name[TIME_DIGITS] != '-' ||
        strspn(name, "0123456789TZ") != TIME_DIGITS)
        return NULL;
    for (const char *const *kind = kinds; *kind; kind++)
        if (strcmp(name + TIME_DIGITS + 1, *kind) == 0)
            return *kind;
    return NULL;
}

/* --- under the MAC key --- */

/* *ret_mac is NULL while there is no key to be asked, as in most of the first ceremony. */
static pfx_result mac_key(const struct pfx_record_maker *maker, struct pfx_session **ret_session,
                          struct pfx_key **ret_mac, struct pfx_error *err)
{
    struct pfx_hsm *hsm = maker->hsm;
    const struct pfx_role_state *users = &hsm->roles[PFX_ROLE_USERS];
    *ret_mac = NULL;
    if (!users->token || users->phase == PFX_ROLE_CLOSED || !hsm->rotation->known)
        return PFX_OK;
    PFX_TRY(pfx_session_acquire(users->token, false, ret_session, err));
    return pfx_ring_key(hsm, &maker->worker->ring, *ret_session, PFX_STANDING_MAC, ret_mac, err);
}

/* Without the key it goes without: what is written then is found in the log and in the tokens. */
static void add_record(const struct pfx_record_maker *maker, struct pfx_buf *text)
{
    struct pfx_session *session PFX_AUTOSESSION = NULL;
    struct pfx_error ignored = PFX_ERROR_NONE;
    struct pfx_key *mac = NULL;
    uint8_t digest[32];
    size_t before = text->len;
    pfx_result result = mac_key(maker, &session, &mac, &ignored);
    if (pfx_failed(result) || !mac)
        return;
    result = pfx_minutes_write(&maker->record, text, &ignored);
    if (pfx_ok(result))
        result = pfx_key_mac(session, mac, pfx_buf_bytes(text), digest, &ignored);
    if (pfx_failed(result) || !pfx_begun_seal(digest, text)) {
        text->over = false;
        pfx_buf_cut(text, before);
    }
}

pfx_result pfx_begun_write(const struct pfx_record_maker *maker, struct pfx_error *err)
{
    struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(PFX_BEGUN_MAX);
    char *path PFX_AUTOFREE = path_of(maker, maker->name);
    pfx_begun_head(maker->origin, maker->from, &text);
    add_record(maker, &text);
    return pfx_file_replace(path, text.data, text.len, 0600, err);
}

/* Under the MAC key, or one before it. */
static pfx_result vouched(const struct pfx_record_maker *maker, const struct pfx_begun_text *text,
                          bool *ret_ours, struct pfx_error *err)
{
    struct pfx_session *session PFX_AUTOSESSION = NULL;
    struct pfx_key *mac = NULL;
    *ret_ours = false;
    if (text->covered.len == 0)
        return PFX_OK;
    PFX_TRY(mac_key(maker, &session, &mac, err));
    return mac ? pfx_mac_vouches(maker->hsm, session, mac, text->covered,
                                 (struct pfx_bytes){text->mac, sizeof text->mac}, ret_ours, NULL,
                                 err)
               : PFX_OK;
}

/* --- reading --- */

pfx_result pfx_begun_read(const struct pfx_record_maker *maker, const char *name,
                          struct pfx_begun *ret, struct pfx_error *err)
{
    struct pfx_buf bytes PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(PFX_BEGUN_MAX);
    struct pfx_begun begun = {.kind = kind_of(name)};
    struct pfx_begun_text text;
    struct pfx_error ignored = PFX_ERROR_NONE;
    char *path PFX_AUTOFREE = path_of(maker, name);
    bool ours;
    PFX_TRY(pfx_file_read(path, PFX_BEGUN_MAX, &bytes, err));
    (void)!pfx_begun_parse(pfx_buf_bytes(&bytes), &text); /* nothing of ours names no log */
    PFX_TRY(vouched(maker, &text, &ours, err));
    snprintf(begun.name, sizeof begun.name, "%s", name);
    memcpy(begun.origin, text.origin, sizeof begun.origin);
    begun.from = text.from;
    if (ours)
        begun.vouched = pfx_ok(pfx_minutes_parse(text.record, &begun.record, &ignored));
    *ret = begun;
    return PFX_OK;
}

void pfx_begun_done(struct pfx_begun *begun)
{
    pfx_minutes_done(&begun->record);
}

pfx_result pfx_begun_remove(const struct pfx_record_maker *maker, const char *name,
                            struct pfx_error *err)
{
    char *path PFX_AUTOFREE = path_of(maker, name);
    if (unlink(path) < 0 && errno != ENOENT)
        return pfx_fail_errno(err, errno, "remove", path, "");
    return PFX_OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

pfx_result pfx_begun_list(const char *folder, char ***ret_names, size_t *ret_n,
                          struct pfx_error *err)
{
    DIR *dir = opendir(folder);
    char **names = NULL;
    size_t n = 0;
    if (!dir && errno != ENOENT)
        return pfx_fail_errno(err, errno, "list", folder, "");
    for (struct dirent *e; dir && (e = readdir(dir));) {
        size_t len = strlen(e->d_name), ending = strlen(ENDING);
        if (e->d_name[0] != '.' || len <= ending + 1 ||
            strcmp(e->d_name + len - ending, ENDING) != 0)
            continue;
        char *name PFX_AUTOFREE = pfx_strndup(e->d_name + 1, len - ending - 1);
        if (strlen(name) >= PFX_RECORD_NAME || !kind_of(name))
            continue;
        names = pfx_grow(names, n + 1, sizeof *names);
        names[n++] = PFX_TAKE(name);
    }
    if (dir)
        closedir(dir);
    if (n > 1)
        qsort(names, n, sizeof *names, by_name);
    *ret_names = names;
    *ret_n = n;
    return PFX_OK;
}

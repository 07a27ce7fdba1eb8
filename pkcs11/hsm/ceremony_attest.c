/*
 * Attestation: what the HSM, or its vendor's tool, says of a key, taken as it is and kept beside the
 * record under its SHA-256. It isn't understood here; whoever knows the vendor's root checks it.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "api/conf/process.h"
#include "crypto/encode.h"
#include "pkcs11/hsm/ceremony_record.h"

#define WHERE_MAX 1200
#define MOST_OBJECTS 16 /* of one key: a page has room for so many */

struct taking {
    struct pfx_record_maker *maker;
    const char *name; /* whose it is: the key's, or the role's */
    size_t n;
};

/* A file that is there already has these bytes: its name is their hash. */
static pfx_result keep(struct taking *taking, const char *source, struct pfx_bytes content,
                       struct pfx_error *err)
{
    uint8_t digest[32];
    char hex[65];
    if (!pfx_sha256(content.data, content.len, digest))
        pfx_die("SHA-256 isn't available");
    pfx_hex(digest, sizeof digest, hex);
    char *file PFX_AUTOFREE = pfx_asprintf("%s.attestation", hex);
    PFX_TRY(pfx_record_put(taking->maker, file, content, err));
    struct pfx_minutes_section *s =
        pfx_minutes_add(&taking->maker->record, PFX_MK_ATTESTATION, taking->name);
    pfx_minutes_set(s, PFX_MF_SOURCE, source);
    pfx_minutes_set(s, PFX_MF_SHA256, hex);
    pfx_minutes_set_int(s, PFX_MF_SIZE, (int64_t)content.len);
    taking->n++;
    return PFX_OK;
}

static pfx_result take_object(void *ctx, const char *label, struct pfx_bytes value,
                              struct pfx_error *err)
{
    struct taking *taking = ctx;
    char *source PFX_AUTOFREE = pfx_asprintf("object %s", label);
    if (value.len == 0)
        return PFX_OK;
    if (taking->n < MOST_OBJECTS)
        return keep(taking, source, value, err);
    char *text PFX_AUTOFREE = pfx_asprintf(
        "%s: only %d objects were taken, the pattern fits more", taking->name, MOST_OBJECTS);
    pfx_record_note(taking->maker, text);
    return PFX_OK;
}

static pfx_result take_attribute(struct taking *taking, struct pfx_session *session,
                                 const struct pfx_key *key, const char *number,
                                 struct pfx_error *err)
{
    struct pfx_buf value PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(PFX_ATTESTATION_MAX);
    char *source PFX_AUTOFREE = pfx_asprintf("attribute %s", number);
    PFX_TRY(pfx_attestation_attribute(session, key, strtoul(number, NULL, 16), &value, err));
    return value.len > 0 ? keep(taking, source, pfx_buf_bytes(&value), err) : PFX_OK;
}

static pfx_result take_file(struct taking *taking, const char *path, struct pfx_error *err)
{
    struct pfx_buf content PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(PFX_ATTESTATION_MAX);
    char *source PFX_AUTOFREE = pfx_asprintf("file %s", path);
    if (access(path, F_OK) != 0) /* the vendor's tool may come after the key is made */
        return PFX_OK;
    PFX_TRY(pfx_file_read(path, PFX_ATTESTATION_MAX, &content, err));
    return content.len > 0 ? keep(taking, source, pfx_buf_bytes(&content), err) : PFX_OK;
}

/* {id} and {name} are the key's; *ret_own: one of them stands there. */
static void fill_in(const char *pattern, const struct pfx_standing_key *standing,
                    char out[WHERE_MAX], bool *ret_own)
{
    char id[2 * PFX_KEY_ID_SIZE + 1];
    size_t len = 0;
    pfx_hex(standing->id.bytes, sizeof standing->id.bytes, id);
    *ret_own = false;
    for (const char *at = pattern; *at && len < WHERE_MAX - 1;) {
        bool is_id = strncmp(at, "{id}", 4) == 0, is_name = strncmp(at, "{name}", 6) == 0;
        if (!is_id && !is_name) {
            out[len++] = *at++;
            continue;
        }
        int n = snprintf(out + len, WHERE_MAX - len, "%s", is_id ? id : standing->name);
        len += (size_t)n < WHERE_MAX - len ? (size_t)n : WHERE_MAX - len - 1;
        at += is_id ? 4 : 6;
        *ret_own = true;
    }
    out[len] = '\0';
}

pfx_result pfx_record_attest(struct pfx_record_maker *maker, struct pfx_session *session,
                             const struct pfx_key *key, const struct pfx_standing_key *standing,
                             struct pfx_error *err)
{
    const char *how = maker->hsm->policy->roles[standing->role].attestation;
    const char *role = pfx_role_name(standing->role);
    char where[WHERE_MAX];
    bool own;
    if (!how || strcmp(how, "none") == 0)
        return PFX_OK;
    const char *colon = strchr(how, ':');
    fill_in(colon ? colon + 1 : "", standing, where, &own);
    bool attribute = strncmp(how, "attribute:", 10) == 0;
    struct taking taking = {maker, own || attribute ? standing->name : role, 0};
    if (pfx_minutes_find(&maker->record, PFX_MK_ATTESTATION, taking.name))
        return PFX_OK; /* one for the whole role, which is there */
    if (attribute && key)
        PFX_TRY(take_attribute(&taking, session, key, where, err));
    else if (!attribute && strncmp(how, "objects:", 8) == 0)
        PFX_TRY(pfx_attestation_objects(session, where, take_object, &taking, err));
    else if (!attribute)
        PFX_TRY(take_file(&taking, where, err));
    if (taking.n == 0) {
        char *text PFX_AUTOFREE =
            pfx_asprintf("%s: no attestation found (%.*s %s)", taking.name,
                         colon ? (int)(colon - how) : 0, how, where);
        pfx_record_note(maker, text);
    }
    return PFX_OK;
}

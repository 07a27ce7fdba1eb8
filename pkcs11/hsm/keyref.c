/* Key references. */
#include "pkcs11/hsm/keyref.h"

#include "crypto/encode.h"
#include "pkcs11/hsm/fields.h"

#define MAX_SPKI 2048
#define MAX_BLOB 8192
#define MAX_PARTS 6

void pfx_keyref_init(struct pfx_keyref *ref)
{
    *ref = (struct pfx_keyref){
        .wrapping = 1, .spki = pfx_buf_make(MAX_SPKI), .blob = pfx_buf_make(MAX_BLOB)};
}

void pfx_keyref_done(struct pfx_keyref *ref)
{
    pfx_buf_done(&ref->spki);
    pfx_buf_done(&ref->blob);
}

static bool exactly(const char *hex, size_t len, void *out, size_t out_len,
                    bool (*decode)(const char *, size_t, struct pfx_buf *))
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf bytes = pfx_buf_make(out_len);
    if (!decode(hex, len, &bytes) || bytes.len != out_len)
        return false;
    memcpy(out, bytes.data, out_len);
    return true;
}

/* From 2 on, in its one spelling: the first one's blobs name none. */
static bool generation(const char *text, size_t len, unsigned *ret_generation)
{
    unsigned long n = strtoul(text, NULL, 10);
    if (len < 1 || len > 6 || text[0] == '0' || strspn(text, "0123456789") != len || n < 2)
        return false;
    *ret_generation = (unsigned)n;
    return true;
}

static bool parse(const char *text, struct pfx_keyref *ref)
{
    struct {
        const char *text;
        size_t len;
    } parts[MAX_PARTS];
    size_t n = 0;
    for (const char *p = text;; p++) {
        size_t len = strcspn(p, ".");
        if (n == MAX_PARTS)
            return false;
        parts[n].text = p;
        parts[n++].len = len;
        p += len;
        if (!*p)
            break;
    }
    if (parts[0].len != 2)
        return false;
    if (memcmp(parts[0].text, "t1", 2) == 0 && n == 3)
        ref->wrapped = false;
    else if ((memcmp(parts[0].text, "w1", 2) == 0 && n == 5) ||
             (memcmp(parts[0].text, "w2", 2) == 0 && n == 6 &&
              generation(parts[5].text, parts[5].len, &ref->wrapping)))
        ref->wrapped = true;
    else
        return false;
    /* pfx_unhex takes capitals, too: a reference has one spelling. */
    if (strspn(parts[1].text, "0123456789abcdef") != parts[1].len ||
        !exactly(parts[1].text, parts[1].len, ref->id.bytes, sizeof ref->id.bytes, pfx_unhex) ||
        !pfx_base64url_decode(parts[2].text, parts[2].len, &ref->spki) || ref->spki.len == 0)
        return false;
    return !ref->wrapped ||
           (pfx_base64url_decode(parts[3].text, parts[3].len, &ref->blob) && ref->blob.len > 0 &&
            exactly(parts[4].text, parts[4].len, ref->mac, sizeof ref->mac, pfx_base64url_decode));
}

pfx_result pfx_keyref_parse(const char *text, struct pfx_keyref *ret_ref, struct pfx_error *err)
{
    PFX_CLEANUP(pfx_keyref_done) struct pfx_keyref ref;
    pfx_keyref_init(&ref);
    if (!parse(text, &ref))
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "read key reference", "", "",
                        "It isn't one that pfx-hsm wrote: the store was changed or damaged.");
    struct pfx_keyref old = *ret_ref;
    *ret_ref = ref;
    ref = old;
    return PFX_OK;
}

pfx_result pfx_keyref_write(const struct pfx_keyref *ref, struct pfx_buf *out,
                            struct pfx_error *err)
{
    char id[2 * PFX_KEY_ID_SIZE + 1];
    pfx_hex(ref->id.bytes, sizeof ref->id.bytes, id);
    bool later = ref->wrapped && ref->wrapping > 1;
    bool ok = pfx_buf_addf(out, "%s.%s.",
                           later          ? "w2"
                           : ref->wrapped ? "w1"
                                          : "t1",
                           id) &&
              pfx_base64url_encode(ref->spki.data, ref->spki.len, out);
    if (ref->wrapped)
        ok = ok && pfx_buf_add_str(out, ".") &&
             pfx_base64url_encode(ref->blob.data, ref->blob.len, out) &&
             pfx_buf_add_str(out, ".") && pfx_base64url_encode(ref->mac, sizeof ref->mac, out);
    if (later)
        ok = ok && pfx_buf_addf(out, ".%u", ref->wrapping);
    if (!ok)
        return pfx_fail(err, PFX_CLASS_INTERNAL, "write key reference", id, "",
                        "It is longer than the protocol has room for.");
    return PFX_OK;
}

bool pfx_keyref_mac_bytes(const struct pfx_keyref *ref, const char *user_id, struct pfx_buf *out)
{
    bool ok = pfx_field_add_text(out, "pfx-agent wrapped key v1") &&
              pfx_field_add_text(out, user_id) &&
              pfx_field_add(out, ref->id.bytes, sizeof ref->id.bytes) &&
              pfx_field_add(out, ref->spki.data, ref->spki.len) &&
              pfx_field_add(out, ref->blob.data, ref->blob.len);
    if (ref->wrapping > 1) {
        char *name PFX_AUTOFREE = pfx_asprintf("wrapping-%u", ref->wrapping);
        ok = ok && pfx_field_add_text(out, name);
    }
    return ok;
}

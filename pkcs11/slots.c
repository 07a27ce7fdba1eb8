/* Tokens by RFC 7512 URI: exactly one or refuse, with the list of those that are there. */
#include <stdio.h>
#include <string.h>

#include <p11-kit/uri.h>

#include "crypto/encode.h"
#include "crypto/mem.h"
#include "pkcs11/module.h"

#define MAX_SLOTS 65536 /* a module that says more lies */

static void uri_freep(P11KitUri **pp)
{
    p11_kit_uri_free(*pp);
}

void pfx_padded(char *out, size_t size, const unsigned char *padded, size_t len)
{
    while (len > 0 && (padded[len - 1] == ' ' || padded[len - 1] == '\0'))
        len--;
    if (len >= size)
        len = size - 1;
    for (size_t i = 0; i < len; i++)
        out[i] = padded[i] < 0x20 || padded[i] == 0x7F ? '?' : (char)padded[i];
    out[len] = '\0';
    pfx_utf8_mend(out); /* Cryptoki says UTF-8; a token says what it wants */
}

static pfx_result refuse(struct pfx_error *err, const char *what, const char *text)
{
    return pfx_fail(err, PFX_CLASS_USAGE, "token URI", what, "", "%s", text);
}

/* The URI itself is never put into a message: what is refused here may hold a PIN. */
static pfx_result parse(const char *uri, const char *what, P11KitUri **ret_uri,
                        struct pfx_error *err)
{
    PFX_CLEANUP(uri_freep) P11KitUri *parsed = p11_kit_uri_new();
    if (!parsed)
        pfx_die("out of memory");
    /* p11-kit takes white space out, so that another name or an empty part may come of it. */
    for (const char *c = uri ? uri : ""; *c; c++)
        if ((unsigned char)*c <= ' ' || (unsigned char)*c >= 0x7F)
            return refuse(err, what, "It has a space or a character that isn't printable ASCII. "
                                     "Write a space as %20, others as their bytes in UTF-8.");
    /* p11-kit reads no further than an empty part. */
    if (uri && strstr(uri, ";;"))
        return refuse(err, what, "It has an empty part (\";;\"). Take one of the semicolons out.");
    int code = p11_kit_uri_parse(uri ? uri : "", P11_KIT_URI_FOR_ANY, parsed);
    if (code != P11_KIT_URI_OK)
        return pfx_fail(err, PFX_CLASS_USAGE, "token URI", what, "",
                        "It isn't an RFC 7512 URI: %s. Write it like "
                        "\"pkcs11:token=LABEL;serial=SERIAL\".", p11_kit_uri_message(code));
    if (p11_kit_uri_get_pin_value(parsed) || p11_kit_uri_get_pin_source(parsed))
        return refuse(err, what, "pin-value and pin-source aren't taken from a URI, since URIs are "
                                 "kept and shown. Take them out and use 'pin_file'.");
    if (p11_kit_uri_get_slot_id(parsed) != (CK_SLOT_ID)-1)
        return refuse(err, what,
                      "slot-id isn't taken: slot numbers change. Name the token by label "
                      "or serial.");
    if (p11_kit_uri_get_module_path(parsed) || p11_kit_uri_get_module_name(parsed))
        return refuse(err, what, "The module stands in 'module', not in the URI. Take module-path "
                                 "and module-name out.");
    CK_ULONG n_attributes = 0;
    (void)p11_kit_uri_get_attributes(parsed, &n_attributes);
    if (n_attributes > 0)
        return refuse(err, what, "It names an object; it must name a token only. Take object, id "
                                 "and type out.");
    /* p11-kit passes over what it doesn't know behind a '?', where a misspelt pin-value may stand. */
    if (p11_kit_uri_any_unrecognized(parsed) || strchr(uri, '?'))
        return refuse(err, what,
                      "It has an attribute that isn't known. token, serial, manufacturer "
                      "and model are.");
    const CK_TOKEN_INFO *info = p11_kit_uri_get_token_info(parsed);
    if (info->label[0] == 0 && info->serialNumber[0] == 0)
        return refuse(err, what, "It must give the token's label (token=) or serial (serial=).");
    *ret_uri = PFX_TAKE(parsed);
    return PFX_OK;
}

pfx_result pfx_uri_check(const char *uri, const char *what, struct pfx_error *err)
{
    PFX_CLEANUP(uri_freep) P11KitUri *parsed = NULL;
    return parse(uri, what, &parsed, err);
}

pfx_result pfx_slots_list(struct pfx_module *module, struct pfx_slot_row **ret_list, size_t *ret_n,
                          struct pfx_error *err)
{
    CK_SLOT_ID *slots PFX_AUTOFREE = NULL;
    CK_ULONG n = 0, room = 0;
    CK_RV rv = PFX_C(module->functions, C_GetSlotList, CK_TRUE, NULL, &n);
    /* Slots may come between the two calls. */
    for (int tries = 0; rv == CKR_OK && tries < 8; tries++) {
        if (n > MAX_SLOTS)
            return pfx_ckr_fail(err, PFX_CKR_NONSENSE, "C_GetSlotList", module->path, "%lu slots.",
                                n);
        room = n + 8;
        n = room;
        slots = pfx_grow(slots, room, sizeof *slots);
        rv = PFX_C(module->functions, C_GetSlotList, CK_TRUE, slots, &n);
        if (rv != CKR_BUFFER_TOO_SMALL)
            break;
        rv = CKR_OK;
    }
    PFX_TRY(pfx_ckr_fail(err, rv, "C_GetSlotList", module->path, "%s", ""));
    if (n > room)
        return pfx_ckr_fail(err, PFX_CKR_NONSENSE, "C_GetSlotList", module->path, "%lu slots.", n);
    struct pfx_slot_row *list = pfx_alloc_array(n + 1, sizeof *list);
    size_t found = 0;
    for (CK_ULONG i = 0; i < n; i++) {
        struct pfx_slot_row *row = &list[found];
        memset(row, 0, sizeof *row);
        row->slot = slots[i];
        rv = PFX_C(module->functions, C_GetTokenInfo, slots[i], &row->info);
        /* A slot that can't say what is in it isn't ours; the next one may be. */
        if (rv == CKR_OK && (row->info.flags & CKF_TOKEN_INITIALIZED))
            found++;
    }
    *ret_list = list;
    *ret_n = found;
    return PFX_OK;
}

static void describe(struct pfx_buf *out, const struct pfx_slot_row *list, size_t n,
                     P11KitUri *only)
{
    size_t shown = 0, left = 0;
    for (size_t i = 0; i < n; i++) {
        if (only && p11_kit_uri_match_token_info(only, &list[i].info) != 1)
            continue;
        if (out->len > 300) {
            left++;
            continue;
        }
        char label[33], serial[17];
        pfx_padded(label, sizeof label, list[i].info.label, sizeof list[i].info.label);
        pfx_padded(serial, sizeof serial, list[i].info.serialNumber,
                   sizeof list[i].info.serialNumber);
        pfx_buf_addf(out, "%s\"%s\" (serial %s)", shown++ ? ", " : "", label, serial);
    }
    if (left)
        pfx_buf_addf(out, " and %zu more", left);
    if (!shown)
        pfx_buf_add_str(out, "none");
}

pfx_result pfx_slots_find(struct pfx_module *module, const char *uri, const char *what,
                          enum pfx_class missing_class, struct pfx_slot_row *ret_row,
                          struct pfx_error *err)
{
    PFX_CLEANUP(uri_freep) P11KitUri *parsed = NULL;
    PFX_TRY(parse(uri, what, &parsed, err));
    struct pfx_slot_row *list PFX_AUTOFREE = NULL;
    size_t n = 0, fits = 0, which = 0;
    PFX_TRY(pfx_slots_list(module, &list, &n, err));
    for (size_t i = 0; i < n; i++) {
        if (p11_kit_uri_match_token_info(parsed, &list[i].info) == 1) {
            fits++;
            which = i;
        }
    }
    if (fits == 1) {
        *ret_row = list[which];
        return PFX_OK;
    }
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf there = pfx_buf_make(500);
    describe(&there, list, n, fits ? parsed : NULL);
    if (fits > 1)
        return pfx_fail(err, PFX_CLASS_USAGE, "find token", what, "",
                        "%zu tokens fit the URI: %s. Add serial= so that exactly one fits.", fits,
                        (const char *)there.data);
    return pfx_fail(err, missing_class, "find token", what, "",
                    "No token fits the URI. The module shows: %s. %s", (const char *)there.data,
                    missing_class == PFX_CLASS_USAGE
                        ? "Correct 'token' in the policy, or connect the token."
                        : "Bring the token back; it is looked for again at the next call.");
}

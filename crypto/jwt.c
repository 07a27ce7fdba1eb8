/* The client assertion. Header and claims are written by hand: six strings and three numbers, none
 * of which needs an escape. */
#include "crypto/jwt.h"

#include <inttypes.h>
#include <string.h>

#include "crypto/encode.h"

/* Refuses what would need an escape in JSON; a URL and GUIDs never do. */
static pfx_result check_text(const char *text, const char *what, struct pfx_error *err)
{
    if (text && *text && strlen(text) <= 2048 && pfx_ascii_printable(text, strlen(text)) &&
        !strpbrk(text, "\"\\"))
        return PFX_OK;
    return pfx_fail(err, PFX_CLASS_USAGE, "build assertion", what, "",
                    "It must be printable ASCII without quotation marks and backslashes.");
}

pfx_result pfx_assertion_input(const struct pfx_assertion *a, struct pfx_buf *out,
                               struct pfx_error *err)
{
    PFX_TRY(check_text(a->audience, "audience", err));
    PFX_TRY(check_text(a->client_id, "client id", err));
    PFX_TRY(check_text(a->jti, "jti", err));
    if (a->now_ms < 0)
        return pfx_fail(err, PFX_CLASS_USAGE, "build assertion", "time", "",
                        "The clock stands before 1970.");
    int64_t now = a->now_ms / 1000;
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf header = pfx_buf_make(512);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf claims = pfx_buf_make(16384);
    bool ok = pfx_buf_addf(&header, "{\"alg\":\"%s\",\"typ\":\"JWT\",\"x5t#S256\":\"",
                           a->rs256 ? "RS256" : "PS256") &&
              pfx_base64url_encode(a->x5t_s256, sizeof a->x5t_s256, &header) &&
              pfx_buf_add_str(&header, "\"}");
    ok = ok && pfx_buf_addf(&claims,
                            "{\"aud\":\"%s\",\"iss\":\"%s\",\"sub\":\"%s\",\"jti\":\"%s\","
                            "\"nbf\":%" PRId64 ",\"iat\":%" PRId64 ",\"exp\":%" PRId64 "}",
                            a->audience, a->client_id, a->client_id, a->jti, now, now,
                            now + PFX_ASSERTION_SECONDS);
    size_t start = out->len;
    ok = ok && pfx_base64url_encode(header.data, header.len, out) && pfx_buf_add(out, ".", 1) &&
         pfx_base64url_encode(claims.data, claims.len, out);
    if (!ok) {
        pfx_buf_cut(out, start);
        return pfx_fail(err, PFX_CLASS_INTERNAL, "build assertion", "", "",
                        "The buffer's ceiling of %zu bytes is too low.", out->max);
    }
    return PFX_OK;
}

bool pfx_assertion_sign(struct pfx_buf *input, struct pfx_bytes signature)
{
    size_t start = input->len;
    if (pfx_buf_add(input, ".", 1) && pfx_base64url_encode(signature.data, signature.len, input))
        return true;
    pfx_buf_cut(input, start);
    return false;
}

/*
 * pfx-uploader without its network: whole jobs against answers that stand in the input.
 *
 *   KIND {...}\n          the job and its body, as pfx-agentd would hand it out
 *   STATUS [BODY [HEAD]]\n  an answer's, and how long its body and its headers become by repeating
 *   Header: value\n      them; or: "curl 28", no answer, but that error of libcurl; "unsent 7", the
 *   \n                    same before anything left; "proxy 407", what the proxy said to CONNECT
 *   body
 *   \x1E                  the next answer begins; \x1F instead: a pause of a minute first
 *
 * The parts are the product's own, but for libcurl, the sockets and the clock. It holds for every
 * job: it ends, once, with what its schema takes or with words for a person, and no request goes to
 * another host than the configuration's.
 */
#ifndef PFX_FUZZ_RIG_H
#define PFX_FUZZ_RIG_H

#include "api/uploader/ca.h"
#include "fuzz.h"

struct rig_kinds {
    const struct pfx_kind *const *tables;
    size_t n_tables;
};
/* The configuration that all targets have; change it before the first run only. */
struct pfx_uploader_conf *rig_conf(void);
/* One input: CA and kinds that its first line may name. */
void rig_run(const struct pfx_ca *ca, const struct rig_kinds *kinds, struct pfx_bytes input);

/* What the fake clock says; it moves by itself while a job waits. */
extern int64_t rig_now_ms;

/* Access tokens come by themselves, and not out of the input. */
extern bool rig_signed_in;
/* Makes an answer's body of the request's and of the input's text; NULL: it is that text. */
extern struct pfx_buf (*rig_make_body)(struct pfx_bytes request, struct pfx_bytes text);

#endif

/*
 * What a policy's text says that entries are compared with: which connectors must confirm a new
 * key, and who approves. pfx-hsm read the text with a YAML library before the log got its hash;
 * here a reader of the plain form that pfx-agent config example prints is enough, and what it isn't
 * sure of counts as not read, never as not there.
 */
#ifndef PFX_AUDIT_POLICY_H
#define PFX_AUDIT_POLICY_H

#include "crypto/encode.h"

#define PFX_POLICY_TEXT_MAX ((size_t)4 << 20)
#define PFX_POLICY_CONNECTORS 32
#define PFX_POLICY_NAME 64 /* bytes of a connector's name, with its NUL */

enum pfx_policy_mode { PFX_POLICY_NO_APPROVALS, PFX_POLICY_SSH, PFX_POLICY_UID };
struct pfx_policy_facts {
    bool read; /* false: nothing of what follows is known */
    enum pfx_policy_mode mode;
    unsigned needed; /* people; 0 without approvals */
    size_t n_connectors;
    char connectors[PFX_POLICY_CONNECTORS][PFX_POLICY_NAME];
};
void pfx_policy_read(struct pfx_bytes text, struct pfx_policy_facts *ret);

#endif

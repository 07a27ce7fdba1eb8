/*
 * The guide for a connector host, as a PowerShell script: first Microsoft's own validation service
 * (Intune-Resource-Access, OnPremValidation), which shows that the service's account reaches the
 * key; then the probe is opened, and what it says is the answer for connector confirm.
 */
#ifndef PFX_HSM_CONNECTOR_GUIDE_H
#define PFX_HSM_CONNECTOR_GUIDE_H

#include "crypto/key.h"
#include "crypto/mem.h"

struct pfx_connector_guide {
    const char *host;
    unsigned generation;
    const char *key_name, *provider_name;
    enum pfx_hash hash;
    const char *probe;                      /* base64 */
    const char *known_plain, *known_sealed; /* for Microsoft's service: text, base64 of it sealed */
};
/* Appends it. False: a name has a control character in it, or out is over its ceiling. */
PFX_MUST_USE bool pfx_connector_guide(const struct pfx_connector_guide *guide, struct pfx_buf *out);

#endif

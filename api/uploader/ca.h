/* A certification authority: which jobs it does, and how it is spoken to. One struct for each;
 * which one is used follows from `ca` in uploader.yaml. */
#ifndef PFX_UPLOADER_CA_H
#define PFX_UPLOADER_CA_H

#include "api/conf/uploader_conf.h"
#include "api/uploader/task.h"

struct pfx_kind {
    const char *name; /* "up.order" */
    pfx_kind_fn begin;
};
struct pfx_ca_conf { /* borrowed from the configuration */
    const char *url;
    struct pfx_rate_conf rates[2]; /* 0 requests: no limit */
};
struct pfx_ca {
    const char *name;        /* "DigiCert" */
    const char *url_option;  /* "digicert.url" */
    const char *auth_header; /* with which its key is sent; NULL: otherwise than in a header */
    const char *secret;      /* that key's name at pfx-hsm */
    struct pfx_ca_conf (*conf)(const struct pfx_uploader_conf *conf);
    /* Reads what the CA's jobs need besides into up->ca; NULL: nothing is needed. */
    pfx_result (*start)(struct pfx_up *up, struct pfx_error *err);
    void (*stop)(struct pfx_up *up); /* also after a start that failed; NULL with start */
    pfx_explain_fn explain;
    const struct pfx_kind *kinds; /* ends with name NULL */
};
extern const struct pfx_ca pfx_ca_digicert;
extern const struct pfx_ca pfx_ca_cmp;

/* Entra ID's directory and Intune by Graph: the job kinds that aren't a CA's. */
extern const struct pfx_kind pfx_graph_kinds[];

#endif

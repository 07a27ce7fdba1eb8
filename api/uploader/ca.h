/* A certification authority: which jobs it does, and how it is spoken to. One struct for each;
 * which one is used follows from uploader.yaml. */
#ifndef PFX_UPLOADER_CA_H
#define PFX_UPLOADER_CA_H

#include "api/uploader/task.h"

struct pfx_kind {
    const char *name; /* "up.order" */
    pfx_kind_fn begin;
};
struct pfx_ca {
    const char *name;        /* "DigiCert" */
    const char *url_option;  /* "digicert.url" */
    const char *auth_header; /* with which its key is sent */
    const char *secret;      /* that key's name at pfx-hsm */
    pfx_explain_fn explain;
    const struct pfx_kind *kinds; /* ends with name NULL */
};
extern const struct pfx_ca pfx_ca_digicert;

/* Entra ID's directory and Intune by Graph: the job kinds that aren't a CA's. */
extern const struct pfx_kind pfx_graph_kinds[];

#endif

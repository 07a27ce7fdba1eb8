/* Inside of `setup digicert`: what its two files share. */
#ifndef PFX_UPLOADER_DIGICERT_SETUP_H
#define PFX_UPLOADER_DIGICERT_SETUP_H

#include "api/uploader/digicert.h"

/* The rules' products, as the job has them. */
size_t pfx_setup_products(struct pfx_task *task);
const struct pfx_msg *pfx_setup_product(struct pfx_task *task, size_t i);
/* Adds a finding; next: what mends it, NULL: nothing is to be done. */
void pfx_setup_find(struct pfx_task *task, const char *what, const char *level, const char *next,
                    const char *fmt, ...) PFX_PRINTF(5, 6);
void pfx_setup_next(struct pfx_task *task); /* a step is done: begins the next one */

#define PFX_SETUP_OF_BALANCE "account balance"
#define PFX_SETUP_BALANCE "CertCentral: Finances > Deposit Funds shows the balance."
#define PFX_SETUP_FIELDS "CertCentral: Settings > Custom Order Fields."

/* digicert_setup_account.c */
bool pfx_setup_pays(struct pfx_task *task, bool balance); /* does a rule pay in this way? */
void pfx_setup_card(struct pfx_task *task);
void pfx_setup_balance(struct pfx_task *task, const struct pfx_answer *answer);
void pfx_setup_fields(struct pfx_task *task, const struct pfx_answer *answer);

#endif

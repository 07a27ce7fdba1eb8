/* The arguments of pfx-audit against its tables of commands and options. */
#ifndef PFX_AUDIT_OPTIONS_H
#define PFX_AUDIT_OPTIONS_H

#include "agent/audit/audit.h"

/* One row for each option; an option that means something else for another command has two. */
struct pfx_audit_option {
    const char *name;     /* without the dashes */
    char letter;          /* of the short form, or 0 */
    const char *arg;      /* what its value is called; NULL: takes none */
    const char *commands; /* which take it, with a space between; NULL: all */
    const char *help;
    size_t offset; /* of its string in struct pfx_audit_options; PFX_AUDIT_NOWHERE: handled here */
};
#define PFX_AUDIT_NOWHERE ((size_t)-1)
extern const struct pfx_audit_option pfx_audit_option_rows[]; /* ends with name NULL */
bool pfx_audit_option_of(const struct pfx_audit_option *option,
                         const struct pfx_audit_command *command);

struct pfx_audit_call {
    struct pfx_audit_options options; /* borrows from argv and from the vectors below */
    bool help, version;
    const char **operands, **keys; /* owned vectors, borrowed strings */
};
/* USAGE with a sentence that names the mistake, and the nearest right word. Without a command it is
 * help. */
PFX_MUST_USE pfx_result pfx_audit_parse(int argc, char *const *argv, struct pfx_audit_call *ret,
                                        struct pfx_error *err);
void pfx_audit_call_done(struct pfx_audit_call *call);
const struct pfx_audit_command *pfx_audit_command_find(const char *name);

#endif

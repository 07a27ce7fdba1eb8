/* Options as tables: one row each, {path, type, range, default, help}. The table reads and checks
 * the YAML file, and writes the example file and the man page. */
#ifndef PFX_CONF_OPTION_H
#define PFX_CONF_OPTION_H

#include "crypto/mem.h"
#include "crypto/result.h"

enum pfx_conf_file { PFX_CONF_AGENT, PFX_CONF_UPLOADER, PFX_CONF_HSM_POLICY };
/* Appends the whole file as a commented example: every option with its default and help. */
void pfx_conf_example(enum pfx_conf_file file, struct pfx_buf *out);
/* Appends the options as a section of a man page (roff). */
void pfx_conf_man(enum pfx_conf_file file, struct pfx_buf *out);
/* Appends one line for each mistake of the file, "file:line: option: what is wrong; expected ...",
 * and returns how many there are; 0: the program takes it. */
size_t pfx_conf_check(enum pfx_conf_file file, const char *path, struct pfx_buf *report);
/* Where the file is unless a command line says otherwise: /etc/pfx-agent/agent.yaml and so on. */
const char *pfx_conf_path(enum pfx_conf_file file);

#endif

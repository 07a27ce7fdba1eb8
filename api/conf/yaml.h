/* YAML as this product takes it: one document of plain maps, lists and scalars. */
#ifndef PFX_CONF_YAML_H
#define PFX_CONF_YAML_H

#include <yaml.h>

#include "api/conf/table.h"

/* False after a mistake was reported: not YAML, an anchor, alias, tag or directive, more than one
 * document. *ret_root is NULL for an empty file. The caller deletes the document where true. */
PFX_MUST_USE bool pfx_yaml_load(struct pfx_conf_reader *reader, struct pfx_bytes text,
                                yaml_document_t *ret_doc, yaml_node_t **ret_root);
unsigned pfx_yaml_line(const yaml_node_t *node);
/* A scalar without NUL and other control characters; NULL for anything else. */
const char *pfx_yaml_text(const yaml_node_t *node, bool *ret_plain);
/* A key whose value was left out, "~" or "null". */
bool pfx_yaml_is_null(const yaml_node_t *node);

#endif

/* How the tables are written: for the files that define schemas only. */
#ifndef PFX_WIRE_TABLES_H
#define PFX_WIRE_TABLES_H

#include "api/wire/messages.h"

#define STR(name, min, max, flags, help) {name, PFX_W_STR, min, max, 0, flags, NULL, help}
#define INT(name, min, max, flags, help) {name, PFX_W_INT, min, max, 0, flags, NULL, help}
#define BOOL(name, flags, help) {name, PFX_W_BOOL, 0, 1, 0, flags, NULL, help}
#define BLOB(name, min, max, flags, help) {name, PFX_W_BLOB, min, max, 0, flags, NULL, help}
#define STRS(name, items, min, max, flags, help) {name, PFX_W_STRS, min, max, items, flags, NULL, help}
#define BLOBS(name, items, min, max, flags, help)                                                  \
    {name, PFX_W_BLOBS, min, max, items, flags, NULL, help}
#define OBJ(name, of, flags, help) {name, PFX_W_OBJ, 0, 0, 0, flags, of, help}
#define OBJS(name, items, of, flags, help) {name, PFX_W_OBJS, 0, 0, items, flags, of, help}
#define BODY(name, flags, help) {name, PFX_W_BODY, 0, 0, 0, flags, NULL, help}
/* SCHEMA(pfx_s_ack, "ack", 512, INT(...), INT(...)); */
#define SCHEMA(var, wire_name, most, ...)                                                          \
    static const struct pfx_wire_field var##_fields[] = {__VA_ARGS__};                             \
    const struct pfx_wire_schema var = {wire_name, most, var##_fields,                             \
                                        sizeof(var##_fields) / sizeof(var##_fields[0])}

/* The same for a schema that only its own file names. */
#define LOCAL_SCHEMA(var, wire_name, most, ...)                                                    \
    static const struct pfx_wire_field var##_fields[] = {__VA_ARGS__};                             \
    static const struct pfx_wire_schema var = {wire_name, most, var##_fields,                      \
                                               sizeof(var##_fields) / sizeof(var##_fields[0])}

#define PFX_MAX_INT ((int64_t)1 << 52)
#define OPT PFX_W_OPT
#define SECRET PFX_W_SECRET
#define KIB 1024
#define MIB (1024 * 1024)

#endif

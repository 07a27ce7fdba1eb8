/* A message with every type of member, for the tests that read and write it. */
#ifndef WIRE_EVERY_H
#define WIRE_EVERY_H

#include "api/wire/tables.h"

LOCAL_SCHEMA(inner, "inner", 256, INT("n", 0, 9, 0, ""), STR("pin", 1, 8, SECRET | OPT, ""));
LOCAL_SCHEMA(all, "all", 4 * KIB, STR("str", 1, 8, 0, ""), INT("int", -5, PFX_MAX_INT, 0, ""),
             BOOL("bool", 0, ""), BLOB("blob", 2, 4, 0, ""), STRS("strs", 2, 1, 4, 0, ""),
             BLOBS("blobs", 2, 1, 4, 0, ""), OBJ("obj", &inner, 0, ""),
             OBJS("objs", 2, &inner, 0, ""), BODY("body", 0, ""),
             STR("opt", 0, 4, OPT, ""), BLOB("key", 1, 8, SECRET | OPT, ""));
LOCAL_SCHEMA(other, "other", 64, INT("x", 0, 1, 0, ""));

#endif

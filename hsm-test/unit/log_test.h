/* What the tests of the log's formats share. */
#ifndef PFX_LOG_TEST_H
#define PFX_LOG_TEST_H

#include "crypto/checkpoint.h"
#include "crypto_test.h"

#define PYTHON "/usr/bin/python3", LOG_ORACLE
#define ORIGIN "host-1.example/pfx-agent"
#define DASH "\xE2\x80\x94"

/* operation-log.md, "Known answers": a checkpoint of the public log Rekor. */
#define REKOR_POINT                                                                                \
    "AjBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABNhtmPtrWm3U1eQXBogSMdGvXwBc"                             \
    "K5AW5i0hrZLOC96l+smGNM7nwZ4QvFK/4sueRoVj//QP22Ni4Qt9DPfkWLc="
#define REKOR_KEY "rekor.sigstore.dev+c0d23d6a+" REKOR_POINT
#define ALIAS_KEY "other.example+c0d23d6a+" REKOR_POINT
#define REKOR_TEXT "Rekor\n798034\nf+7CoKgXKE/tNys9TTXcr/ad6U/K3xvznmzew9y6SP0=\n"
#define REKOR_SIGNATURE                                                                            \
    "wNI9ajBEAiARInWIWyCdyG27CO6LPnPekyw20qO0YJfoaPaowGp/XgIgc+qEHS3+GKVClgqq20uDLet7MCoTURUCRdxw" \
    "WBHHufk="
#define REKOR_LINE DASH " rekor.sigstore.dev " REKOR_SIGNATURE "\n"
#define REKOR_NOTE REKOR_TEXT "\n" REKOR_LINE
/* The key of Go's own documentation of notes. */
#define ED25519_KEY "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
#define ROOT "f+7CoKgXKE/tNys9TTXcr/ad6U/K3xvznmzew9y6SP0="

/* A row of hostile text: what it is, and the line that the message has to name (0: it is taken). */
#define NOTE(text, line)                                                                           \
    {                                                                                              \
        text, sizeof text - 1, line                                                                \
    }

static inline struct pfx_vkey vkey(const char *line)
{
    struct pfx_vkey key = {0};
    ERROR(err);
    assert_ok(pfx_vkey_parse(line, &key, &err), &err);
    return key;
}

#endif

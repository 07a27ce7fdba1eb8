/* A JSON text to read from. */
#ifndef PFX_HSM_TEST_UPLOADER_DOC_H
#define PFX_HSM_TEST_UPLOADER_DOC_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "api/uploader/json.h"

static struct pfx_doc doc; /* pfx_doc_done at the end */

static const cJSON *read_doc(const char *text)
{
    pfx_doc_done(&doc);
    char why[160];
    assert_true(pfx_doc_parse((struct pfx_bytes){(const uint8_t *)text, strlen(text)}, &doc, why));
    return pfx_doc_root(&doc);
}

#endif

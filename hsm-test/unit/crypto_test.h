/* What every crypto_*.c test begins with. */
#ifndef PFX_CRYPTO_TEST_H
#define PFX_CRYPTO_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "crypto/mem.h"
#include "crypto/result.h"

#define assert_ok(expr, error)                                                                     \
    do {                                                                                           \
        pfx_result r_ = (expr);                                                                    \
        if (pfx_failed(r_)) {                                                                      \
            char line_[1024];                                                                      \
            fail_msg("%s", pfx_error_line((error), line_, sizeof line_));                          \
        }                                                                                          \
    } while (0)
#define assert_class(expr, class) assert_int_equal((expr).cls, (class))
#define BYTES(literal) ((struct pfx_bytes){(const uint8_t *)(literal), sizeof(literal) - 1})
#define ERROR(name) struct pfx_error name = PFX_ERROR_NONE

#endif

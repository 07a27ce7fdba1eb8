/* Which class follows from how an exchange ended, and how long to wait. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <curl/curl.h>

#include "api/uploader/retry.h"

#define CA PFX_SERVICE_CA
#define GRAPH PFX_SERVICE_GRAPH
#define ENTRA PFX_SERVICE_ENTRA
#define T PFX_CLASS_TRANSIENT
#define L PFX_CLASS_LOST
#define R PFX_CLASS_REFUSED

static void test_statuses(void **state)
{
    (void)state;
    static const struct {
        enum pfx_service_id service;
        bool read;
        long status;
        enum pfx_class cls;
        bool credential;
    } rows[] = {
        {CA, true, 200, PFX_CLASS_OK, false},   {CA, false, 201, PFX_CLASS_OK, false},
        {CA, false, 204, PFX_CLASS_OK, false},  {CA, true, 301, R, false},
        {CA, false, 302, R, false},             {CA, false, 400, R, false},
        {CA, false, 303, L, false},             {CA, true, 303, R, false},
        {CA, true, 401, R, true},               {CA, false, 401, R, true},
        {CA, true, 403, R, true},               {CA, false, 403, R, true},
        {CA, true, 404, R, false},              {CA, true, 406, T, false},
        {CA, false, 406, L, false},             {CA, true, 500, T, false},
        {CA, true, 501, R, false},              {CA, true, 502, T, false},
        {CA, true, 503, T, false},              {CA, true, 504, T, false},
        {CA, true, 505, R, false},              {CA, false, 500, L, false},
        {CA, false, 502, L, false},             {CA, false, 503, L, false},
        {CA, false, 504, L, false},             {CA, false, 599, L, false},
        {CA, false, 408, L, false},             {CA, false, 100, L, false},
        {CA, true, 421, T, false},              {GRAPH, false, 421, L, false},
        {GRAPH, true, 401, R, true},            {GRAPH, true, 403, R, false},
        {GRAPH, false, 403, R, false},          {GRAPH, false, 409, R, false},
        {GRAPH, true, 406, R, false},           {GRAPH, true, 408, T, false},
        {GRAPH, true, 500, T, false},           {GRAPH, true, 509, T, false},
        {GRAPH, false, 500, L, false},          {GRAPH, false, 503, L, false},
        {ENTRA, true, 400, R, false},           {ENTRA, true, 401, R, false},
        {ENTRA, true, 503, T, false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct pfx_exchange x = {.service = rows[i].service, .read = rows[i].read, .sent = true,
                                 .status = rows[i].status};
        struct pfx_verdict v = pfx_retry_judge(&x, 0);
        if (v.cls != rows[i].cls || v.credential != rows[i].credential || v.throttled)
            fail_msg("row %zu: class %d", i, (int)v.cls);
    }
}

static void test_throttled(void **state)
{
    (void)state;
    for (int read = 0; read < 2; read++) {
        struct pfx_exchange x = {.service = CA, .read = read, .sent = true, .status = 429,
                                 .retry_after = "3"};
        struct pfx_verdict v = pfx_retry_judge(&x, 0);
        assert_int_equal(v.cls, T);
        assert_true(v.throttled);
        assert_int_equal(v.wait_ms, 3000);
        x.curl_code = CURLE_PARTIAL_FILE; /* cut off, and a 429 all the same */
        assert_true(pfx_retry_judge(&x, 0).throttled);
    }
}

static void test_curl_codes(void **state)
{
    (void)state;
    static const struct {
        int code;
        bool read, sent;
        enum pfx_class cls;
    } rows[] = {
        {CURLE_COULDNT_RESOLVE_HOST, false, false, T},
        {CURLE_COULDNT_RESOLVE_PROXY, false, false, T},
        {CURLE_COULDNT_CONNECT, false, false, T},
        {CURLE_COULDNT_CONNECT, false, true, L},
        {CURLE_COULDNT_CONNECT, true, false, T},
        {CURLE_SSL_CONNECT_ERROR, false, false, T},
        {CURLE_PEER_FAILED_VERIFICATION, false, false, T},
        {CURLE_PROXY, false, false, T},
        {CURLE_OPERATION_TIMEDOUT, false, false, T},
        {CURLE_OPERATION_TIMEDOUT, false, true, L},
        {CURLE_OPERATION_TIMEDOUT, true, true, T},
        {CURLE_RECV_ERROR, false, true, L},
        {CURLE_RECV_ERROR, false, false, T},
        {CURLE_RECV_ERROR, true, false, T},
        {CURLE_SEND_ERROR, false, true, L},
        {CURLE_GOT_NOTHING, false, true, L},
        {CURLE_GOT_NOTHING, true, false, T},
        {CURLE_PARTIAL_FILE, false, true, L},
        {CURLE_PARTIAL_FILE, true, false, T},
        {CURLE_SEND_FAIL_REWIND, false, true, L},
        {CURLE_HTTP2_STREAM, false, true, L},
        {CURLE_WEIRD_SERVER_REPLY, false, true, L},
        {CURLE_URL_MALFORMAT, true, false, PFX_CLASS_USAGE},
        {CURLE_UNSUPPORTED_PROTOCOL, false, false, PFX_CLASS_USAGE},
        {CURLE_OUT_OF_MEMORY, false, false, PFX_CLASS_INTERNAL},
        {CURLE_OUT_OF_MEMORY, false, true, L},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct pfx_exchange x = {.service = GRAPH, .read = rows[i].read, .sent = rows[i].sent,
                                 .curl_code = rows[i].code};
        if (pfx_retry_judge(&x, 0).cls != rows[i].cls)
            fail_msg("row %zu: class %d", i, (int)pfx_retry_judge(&x, 0).cls);
    }
}

/* The same codes where there was a connection: a server said it, and it isn't our mistake. */
static void test_servers_fault(void **state)
{
    (void)state;
    static const int codes[] = {CURLE_UNSUPPORTED_PROTOCOL, CURLE_URL_MALFORMAT,
                                CURLE_OUT_OF_MEMORY, CURLE_BAD_FUNCTION_ARGUMENT};
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        struct pfx_exchange x = {.service = CA, .read = true, .begun = true,
                                 .curl_code = codes[i]};
        assert_int_equal(pfx_retry_judge(&x, 0).cls, T);
        x.read = false;
        assert_int_equal(pfx_retry_judge(&x, 0).cls, T);
        x.sent = true;
        assert_int_equal(pfx_retry_judge(&x, 0).cls, L);
    }
}

static void test_foreign(void **state)
{
    (void)state;
    struct pfx_exchange x = {.service = GRAPH, .read = true, .begun = true, .foreign = true,
                             .status = 429, .retry_after = "9", .curl_code = CURLE_WRITE_ERROR};
    struct pfx_verdict v = pfx_retry_judge(&x, 0);
    assert_int_equal(v.cls, T);
    assert_false(v.throttled);
    assert_int_equal(v.wait_ms, -1);
    x.read = false;
    assert_int_equal(pfx_retry_judge(&x, 0).cls, T);
    x.sent = true;
    assert_int_equal(pfx_retry_judge(&x, 0).cls, L);
}

/* A date is of the server's clock. */
static void test_clocks(void **state)
{
    (void)state;
    struct pfx_exchange x = {.service = CA, .status = 429,
                             .retry_after = "Wed, 21 Oct 2015 07:28:00 GMT"};
    assert_int_equal(pfx_retry_judge(&x, 1445412470000).wait_ms, 10000);
    x.date = "Wed, 21 Oct 2015 07:27:57 GMT";
    for (int hours = -3; hours <= 3; hours++)
        assert_int_equal(pfx_retry_judge(&x, 1445412470000 + hours * 3600000LL).wait_ms, 3000);
    x.date = "yesterday";
    assert_int_equal(pfx_retry_judge(&x, 1445412470000).wait_ms, 10000);
}

static void test_too_big(void **state)
{
    (void)state;
    struct pfx_exchange x = {.service = CA, .read = true, .status = 200, .too_big = true,
                             .curl_code = CURLE_WRITE_ERROR};
    assert_int_equal(pfx_retry_judge(&x, 0).cls, R);
    x.read = false;
    x.sent = true;
    assert_int_equal(pfx_retry_judge(&x, 0).cls, L);
}

static void test_retry_after(void **state)
{
    (void)state;
    static const struct {
        const char *after, *ms;
        int64_t want;
    } rows[] = {
        {NULL, NULL, -1}, {"", "", -1}, {"0", NULL, 0}, {"7", NULL, 7000}, {"0.5", NULL, 500},
        {"1.2345", NULL, 1235}, {"9", "250", 250}, {NULL, "250.1", 251}, {"3", "soon", 3000},
        {"-1", NULL, -1}, {"1e9", NULL, -1}, {"0x10", NULL, -1}, {"inf", NULL, -1},
        {"nan", NULL, -1}, {"1 2", NULL, -1}, {"5 ", NULL, 5000}, {"99999", NULL, 3600000},
        {"99999999999999999999", NULL, 3600000}, {"999999999999999999999", NULL, -1},
        {"Wed, 21 Oct 2015 07:28:00 GMT", NULL, 10000}, {"Wed, 21 Oct 2015 07:00:00 GMT", NULL, 0},
        {"Wednesday, 21-Oct-15 07:28:00 GMT", NULL, 10000}, {"tomorrow", NULL, -1},
        {"Mon", NULL, -1}, {"1.2.3", NULL, -1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int64_t got = pfx_retry_after(rows[i].after, rows[i].ms, 1445412470000);
        if (got != rows[i].want)
            fail_msg("row %zu: %lld", i, (long long)got);
    }
}

static void test_pause(void **state)
{
    (void)state;
    assert_int_equal(pfx_retry_pause(GRAPH, 1, 99), 10000);
    assert_int_equal(pfx_retry_pause(GRAPH, 2, 0), 20000);
    assert_int_equal(pfx_retry_pause(GRAPH, 4, 0), 60000);
    assert_int_equal(pfx_retry_pause(GRAPH, 1000, 0), 60000);
    for (uint32_t random = 0; random < 100000; random += 777) {
        assert_in_range(pfx_retry_pause(CA, 1, random), 5000, 6249);
        assert_in_range(pfx_retry_pause(CA, 50, random), 60000, 74999);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_statuses),    cmocka_unit_test(test_throttled),
        cmocka_unit_test(test_curl_codes),  cmocka_unit_test(test_too_big),
        cmocka_unit_test(test_retry_after), cmocka_unit_test(test_pause),
        cmocka_unit_test(test_servers_fault), cmocka_unit_test(test_foreign),
        cmocka_unit_test(test_clocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

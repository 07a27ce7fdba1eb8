/* The Cryptoki module for tests itself: arguments with pointers reach the real token and come back
 * as OpenSSL computes them, and each fault is what hsm-test/cryptoki/README.md says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dlfcn.h>
#include <p11-kit/pkcs11.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#define SOFTHSM "/usr/lib/softhsm/libsofthsm2.so"
#define NSS "/usr/lib/x86_64-linux-gnu/libsoftokn3.so"
#define N_OF(array) (sizeof(array) / sizeof((array)[0]))
#define IS(call, rv) assert_int_equal((call), (rv))

static char folder[64], socket_path[80];
static pid_t server;
static CK_FUNCTION_LIST *p11;
static CK_SESSION_HANDLE session;
static const CK_BBOOL yes = CK_TRUE, no = CK_FALSE;

static void nap(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
}

static void write_file(const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

/* One line to the control socket; the answer's lines but the last, which has to be "ok". */
static void control(char *answer, size_t size, const char *line)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    size_t n = 0;
    char text[8192];
    snprintf(to.sun_path, sizeof to.sun_path, "%s.control", socket_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    IS(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    snprintf(text, sizeof text, "%s\n", line);
    IS(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    while (n < sizeof text - 1 && !(n >= 3 && memcmp(text + n - 3, "ok\n", 3) == 0)) {
        ssize_t got = read(fd, text + n, sizeof text - 1 - n);
        assert_true(got > 0);
        n += (size_t)got;
        text[n] = '\0';
        assert_null(strstr(text, "error "));
    }
    close(fd);
    if (answer)
        snprintf(answer, size, "%.*s", (int)(n - 3), text);
}

static void fault(const char *rule)
{
    char line[128];
    snprintf(line, sizeof line, "fault %s", rule);
    control(NULL, 0, line);
}

static void serve(const char *module, const char *parameters)
{
    struct stat st;
    snprintf(folder, sizeof folder, "/tmp/pfx-token-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(socket_path, sizeof socket_path, "%s/s", folder);
    char path[128], conf[256], text[256];
    snprintf(path, sizeof path, "%s/tokens", folder);
    IS(mkdir(path, 0700), 0);
    snprintf(conf, sizeof conf, "%s/softhsm2.conf", folder);
    snprintf(text, sizeof text, "directories.tokendir = %s\nobjectstore.backend = file\n", path);
    write_file("softhsm2.conf", text);
    setenv("SOFTHSM2_CONF", conf, 1);
    setenv("PFX_TEST_TOKEN", socket_path, 1);
    server = fork();
    if (server == 0) {
        unsetenv("ASAN_OPTIONS");
        execl(TEST_TOKEN_SERVER, TEST_TOKEN_SERVER, "--socket", socket_path, "--module", module,
              "--needles", "--with-parent", parameters ? "--parameters" : NULL, parameters, NULL);
        _exit(127);
    }
    while (stat(socket_path, &st) != 0)
        nap();
    void *library = dlopen(TEST_TOKEN_MODULE, RTLD_NOW | RTLD_LOCAL);
    assert_non_null(library);
    CK_C_GetFunctionList get;
    void *symbol = dlsym(library, "C_GetFunctionList");
    memcpy(&get, &symbol, sizeof get);
    IS(get(&p11), CKR_OK);
    IS(p11->C_Initialize(NULL), CKR_OK);
}

static int end(void **state)
{
    (void)state;
    char path[128];
    (void)p11->C_Finalize(NULL);
    kill(server, SIGTERM);
    waitpid(server, NULL, 0);
    snprintf(path, sizeof path, "%s", folder);
    pid_t pid = fork();
    if (pid == 0) {
        execl("/bin/rm", "rm", "-rf", path, NULL);
        _exit(127);
    }
    waitpid(pid, NULL, 0);
    return 0;
}

static CK_UTF8CHAR so[] = "87654321", pin[] = "first-pin", last_pin[] = "4711-pin";

static void open_session(CK_SLOT_ID slot)
{
    IS(p11->C_OpenSession(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &session), CKR_OK);
}

static int softhsm(void **state)
{
    (void)state;
    CK_SLOT_ID slots[8];
    CK_ULONG n = N_OF(slots);
    CK_UTF8CHAR label[32];
    if (access(SOFTHSM, R_OK) != 0)
        return 1;
    serve(SOFTHSM, NULL);
    memset(label, ' ', sizeof label);
    memcpy(label, "remote", 6);
    IS(p11->C_GetSlotList(CK_FALSE, slots, &n), CKR_OK);
    IS(p11->C_InitToken(slots[0], so, sizeof so - 1, label), CKR_OK);
    n = N_OF(slots);
    IS(p11->C_GetSlotList(CK_TRUE, slots, &n), CKR_OK);
    CK_TOKEN_INFO info;
    IS(p11->C_GetTokenInfo(slots[0], &info), CKR_OK);
    assert_memory_equal(info.label, label, sizeof label);
    open_session(slots[0]);
    IS(p11->C_Login(session, CKU_SO, so, sizeof so - 1), CKR_OK);
    IS(p11->C_InitPIN(session, pin, sizeof pin - 1), CKR_OK);
    IS(p11->C_Logout(session), CKR_OK);
    IS(p11->C_Login(session, CKU_USER, pin, sizeof pin - 1), CKR_OK);
    IS(p11->C_SetPIN(session, pin, sizeof pin - 1, last_pin, sizeof last_pin - 1), CKR_OK);
    IS(p11->C_Logout(session), CKR_OK);
    IS(p11->C_Login(session, CKU_USER, pin, sizeof pin - 1), CKR_PIN_INCORRECT);
    IS(p11->C_Login(session, CKU_USER, last_pin, sizeof last_pin - 1), CKR_OK);
    return 0;
}

/* Its slot without a database: session keys, no login. */
static int nss(void **state)
{
    (void)state;
    if (access(NSS, R_OK) != 0)
        return 1;
    serve(NSS, "configdir='' certPrefix='' keyPrefix='' secmod='' flags=noModDB,noCertDB");
    open_session(1);
    return 0;
}

static CK_OBJECT_HANDLE secret(CK_KEY_TYPE type, const void *value, CK_ULONG len)
{
    CK_OBJECT_CLASS cls = CKO_SECRET_KEY;
    CK_ATTRIBUTE at[] = {{CKA_CLASS, &cls, sizeof cls},
                         {CKA_KEY_TYPE, &type, sizeof type},
                         {CKA_TOKEN, (void *)(uintptr_t)&no, 1},
                         {CKA_ENCRYPT, (void *)(uintptr_t)&yes, 1},
                         {CKA_DECRYPT, (void *)(uintptr_t)&yes, 1},
                         {CKA_DERIVE, (void *)(uintptr_t)&yes, 1},
                         {CKA_SIGN, (void *)(uintptr_t)&yes, 1},
                         {CKA_VALUE, (void *)(uintptr_t)value, len}};
    CK_OBJECT_HANDLE key = 0;
    IS(p11->C_CreateObject(session, at, N_OF(at), &key), CKR_OK);
    return key;
}

/* A key that shows its value. */
static CK_OBJECT_CLASS secret_class = CKO_SECRET_KEY;
static CK_KEY_TYPE generic = CKK_GENERIC_SECRET;
static CK_ULONG length32 = 32;
static CK_ATTRIBUTE open_key[] = {
    {CKA_CLASS, &secret_class, sizeof secret_class}, {CKA_KEY_TYPE, &generic, sizeof generic},
    {CKA_TOKEN, (void *)(uintptr_t)&no, 1},          {CKA_SENSITIVE, (void *)(uintptr_t)&no, 1},
    {CKA_EXTRACTABLE, (void *)(uintptr_t)&yes, 1},   {CKA_VALUE_LEN, &length32, sizeof length32}};

static void value_of(CK_OBJECT_HANDLE key, unsigned char out[32])
{
    CK_ATTRIBUTE at = {CKA_VALUE, out, 32};
    IS(p11->C_GetAttributeValue(session, key, &at, 1), CKR_OK);
    assert_int_equal(at.ulValueLen, 32);
}

static const unsigned char aes[32] = "0123456789abcdef0123456789abcdef", iv[16] = "initial vector";
static const char text[] = "thirty-two bytes of plain text.";

static void gcm(void **state)
{
    (void)state;
    unsigned char out[64], mine[64], aad[] = "additional data", nonce[12] = "nonce";
    CK_ULONG len = sizeof out;
    int n = 0, last = 0;
    CK_GCM_PARAMS params = {nonce, sizeof nonce, sizeof nonce * 8, aad, sizeof aad, 128};
    CK_MECHANISM mechanism = {CKM_AES_GCM, &params, sizeof params};
    IS(p11->C_EncryptInit(session, &mechanism, secret(CKK_AES, aes, 32)), CKR_OK);
    IS(p11->C_Encrypt(session, (CK_BYTE *)(uintptr_t)text, 32, out, &len), CKR_OK);
    assert_int_equal(len, 48);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    IS(EVP_EncryptInit_ex2(ctx, EVP_aes_256_gcm(), aes, nonce, NULL), 1);
    IS(EVP_EncryptUpdate(ctx, NULL, &n, aad, sizeof aad), 1);
    IS(EVP_EncryptUpdate(ctx, mine, &n, (const unsigned char *)text, 32), 1);
    IS(EVP_EncryptFinal_ex(ctx, mine + n, &last), 1);
    IS(EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_GET_TAG, 16, mine + 32), 1);
    EVP_CIPHER_CTX_free(ctx);
    assert_memory_equal(out, mine, 48);
}

static void cbc(void **state)
{
    (void)state;
    unsigned char out[64], mine[64], vector[16];
    CK_ULONG len = sizeof out, asked = 0;
    int n = 0, last = 0;
    memcpy(vector, iv, 16);
    CK_MECHANISM mechanism = {CKM_AES_CBC_PAD, vector, sizeof vector};
    IS(p11->C_EncryptInit(session, &mechanism, secret(CKK_AES, aes, 32)), CKR_OK);
    IS(p11->C_Encrypt(session, (CK_BYTE *)(uintptr_t)text, 32, NULL, &asked), CKR_OK);
    assert_true(asked >= 48);
    IS(p11->C_Encrypt(session, (CK_BYTE *)(uintptr_t)text, 32, out, &len), CKR_OK);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    IS(EVP_EncryptInit_ex2(ctx, EVP_aes_256_cbc(), aes, iv, NULL), 1);
    IS(EVP_EncryptUpdate(ctx, mine, &n, (const unsigned char *)text, 32), 1);
    IS(EVP_EncryptFinal_ex(ctx, mine + n, &last), 1);
    EVP_CIPHER_CTX_free(ctx);
    assert_int_equal(len, (CK_ULONG)(n + last));
    assert_memory_equal(out, mine, len);
}

/* CKM_AES_CBC_ENCRYPT_DATA: an array and a pointer in one structure. */
static void derive_by_data(void **state)
{
    (void)state;
    unsigned char out[32], mine[64];
    int n = 0;
    CK_AES_CBC_ENCRYPT_DATA_PARAMS params = {.data_params = (void *)(uintptr_t)text, .length = 32};
    memcpy(params.iv, iv, 16);
    CK_MECHANISM mechanism = {CKM_AES_CBC_ENCRYPT_DATA, &params, sizeof params};
    CK_OBJECT_HANDLE key = 0;
    IS(p11->C_DeriveKey(session, &mechanism, secret(CKK_AES, aes, 32), open_key, N_OF(open_key),
                        &key),
       CKR_OK);
    value_of(key, out);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    IS(EVP_EncryptInit_ex2(ctx, EVP_aes_256_cbc(), aes, iv, NULL), 1);
    IS(EVP_EncryptUpdate(ctx, mine, &n, (const unsigned char *)text, 32), 1);
    EVP_CIPHER_CTX_free(ctx);
    assert_memory_equal(out, mine, 32);
}

static void ecdh(void **state)
{
    (void)state;
    static CK_BYTE p256[] = {0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07};
    CK_ATTRIBUTE public_at[] = {{CKA_EC_PARAMS, p256, sizeof p256},
                                {CKA_TOKEN, (void *)(uintptr_t)&no, 1}};
    CK_ATTRIBUTE private_at[] = {{CKA_TOKEN, (void *)(uintptr_t)&no, 1},
                                 {CKA_DERIVE, (void *)(uintptr_t)&yes, 1}};
    CK_MECHANISM make = {CKM_EC_KEY_PAIR_GEN, NULL, 0};
    CK_OBJECT_HANDLE public = 0, private = 0, derived = 0;
    IS(p11->C_GenerateKeyPair(session, &make, public_at, N_OF(public_at), private_at,
                              N_OF(private_at), &public, &private),
       CKR_OK);
    unsigned char point[80], mine[65], out[32], expect[32];
    CK_ATTRIBUTE read = {CKA_EC_POINT, point, sizeof point};
    IS(p11->C_GetAttributeValue(session, public, &read, 1), CKR_OK);
    assert_int_equal(read.ulValueLen, 67); /* in an OCTET STRING */
    EVP_PKEY *own = EVP_EC_gen("P-256"), *theirs = EVP_PKEY_new();
    size_t n = 0;
    IS(EVP_PKEY_get_octet_string_param(own, "pub", mine, sizeof mine, &n), 1);
    CK_ECDH1_DERIVE_PARAMS params = {.kdf = 1, .public_data_len = n, .public_data = mine};
    CK_MECHANISM how = {CKM_ECDH1_DERIVE, &params, sizeof params};
    IS(p11->C_DeriveKey(session, &how, private, open_key, N_OF(open_key), &derived), CKR_OK);
    value_of(derived, out);
    IS(EVP_PKEY_copy_parameters(theirs, own), 1);
    IS(EVP_PKEY_set1_encoded_public_key(theirs, point + 2, 65), 1);
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(own, NULL);
    n = sizeof expect;
    IS(EVP_PKEY_derive_init(ctx), 1);
    IS(EVP_PKEY_derive_set_peer(ctx, theirs), 1);
    IS(EVP_PKEY_derive(ctx, expect, &n), 1);
    EVP_PKEY_CTX_free(ctx);
    EVP_PKEY_free(own);
    EVP_PKEY_free(theirs);
    assert_memory_equal(out, expect, 32);
}

/* A template in a template: SoftHSM keeps to it when the key unwraps. */
static void nested(void **state)
{
    (void)state;
    CK_OBJECT_CLASS cls = CKO_SECRET_KEY;
    CK_KEY_TYPE type = CKK_AES;
    CK_ULONG len = 32;
    CK_ATTRIBUTE inner[] = {{CKA_EXTRACTABLE, (void *)(uintptr_t)&no, 1},
                            {CKA_LABEL, (void *)(uintptr_t) "within", 6}};
    CK_ATTRIBUTE at[] = {{CKA_CLASS, &cls, sizeof cls},
                         {CKA_KEY_TYPE, &type, sizeof type},
                         {CKA_TOKEN, (void *)(uintptr_t)&no, 1},
                         {CKA_WRAP, (void *)(uintptr_t)&yes, 1},
                         {CKA_UNWRAP, (void *)(uintptr_t)&yes, 1},
                         {CKA_VALUE_LEN, &len, sizeof len},
                         {0x40000212UL, inner, sizeof inner}};
    CK_MECHANISM make = {CKM_AES_KEY_GEN, NULL, 0}, wrap = {0x2109UL, NULL, 0};
    CK_OBJECT_HANDLE by = 0, key = 0;
    IS(p11->C_GenerateKey(session, &make, at, N_OF(at), &by), CKR_OK);
    unsigned char wrapped[64];
    CK_ULONG n = sizeof wrapped;
    CK_OBJECT_HANDLE inside = 0;
    CK_ATTRIBUTE whole[] = {
        {CKA_CLASS, &cls, sizeof cls},          {CKA_KEY_TYPE, &type, sizeof type},
        {CKA_TOKEN, (void *)(uintptr_t)&no, 1}, {CKA_EXTRACTABLE, (void *)(uintptr_t)&yes, 1},
        {CKA_VALUE_LEN, &len, sizeof len},      {CKA_LABEL, (void *)(uintptr_t) "within", 6}};
    IS(p11->C_GenerateKey(session, &make, whole, N_OF(whole), &inside), CKR_OK);
    IS(p11->C_WrapKey(session, &wrap, by, inside, wrapped, &n), CKR_OK);
    whole[4] = whole[5]; /* a length isn't for an unwrapped key */
    IS(p11->C_UnwrapKey(session, &wrap, by, wrapped, n, whole, 5, &key), CKR_TEMPLATE_INCONSISTENT);
    whole[3].pValue = (void *)(uintptr_t)&no;
    IS(p11->C_UnwrapKey(session, &wrap, by, wrapped, n, whole, 5, &key), CKR_OK);
    whole[4].pValue = (void *)(uintptr_t) "Within";
    IS(p11->C_UnwrapKey(session, &wrap, by, wrapped, n, whole, 5, &key), CKR_TEMPLATE_INCONSISTENT);
}

/* NSS: the older structure, whose last member is a pointer to the length. */
static void pbkdf2(void **state)
{
    (void)state;
    unsigned char salt[] = "salt of the test", password[] = "password", out[32], mine[32];
    CK_ULONG n_password = sizeof password - 1;
    struct {
        CK_ULONG source;
        void *salt;
        CK_ULONG n_salt, iterations, prf;
        void *prf_data;
        CK_ULONG n_prf_data;
        void *password;
        CK_ULONG *n_password;
    } params = {1, salt, sizeof salt, 1000, 4, NULL, 0, password, &n_password};
    CK_MECHANISM mechanism = {CKM_PKCS5_PBKD2, &params, sizeof params};
    CK_OBJECT_HANDLE key = 0;
    IS(p11->C_GenerateKey(session, &mechanism, open_key, N_OF(open_key), &key), CKR_OK);
    value_of(key, out);
    IS(PKCS5_PBKDF2_HMAC((char *)password, (int)n_password, salt, sizeof salt, 1000, EVP_sha256(),
                         32, mine),
       1);
    assert_memory_equal(out, mine, 32);
}

static EVP_PKEY *rsa_pair(CK_OBJECT_HANDLE *ret_private)
{
    CK_ULONG bits = 2048;
    CK_BYTE exponent[] = {1, 0, 1};
    CK_ATTRIBUTE public_at[] = {{CKA_MODULUS_BITS, &bits, sizeof bits},
                                {CKA_PUBLIC_EXPONENT, exponent, sizeof exponent},
                                {CKA_TOKEN, (void *)(uintptr_t)&no, 1}};
    CK_ATTRIBUTE private_at[] = {{CKA_TOKEN, (void *)(uintptr_t)&no, 1},
                                 {CKA_SIGN, (void *)(uintptr_t)&yes, 1},
                                 {CKA_SENSITIVE, (void *)(uintptr_t)&yes, 1},
                                 {CKA_EXTRACTABLE, (void *)(uintptr_t)&yes, 1},
                                 {CKA_DECRYPT, (void *)(uintptr_t)&yes, 1}};
    CK_MECHANISM make = {CKM_RSA_PKCS_KEY_PAIR_GEN, NULL, 0};
    CK_OBJECT_HANDLE public = 0;
    IS(p11->C_GenerateKeyPair(session, &make, public_at, N_OF(public_at), private_at,
                              N_OF(private_at), &public, ret_private),
       CKR_OK);
    unsigned char modulus[256];
    CK_ATTRIBUTE read = {CKA_MODULUS, modulus, sizeof modulus};
    IS(p11->C_GetAttributeValue(session, public, &read, 1), CKR_OK);
    /* Cryptoki's numbers are big-endian, OSSL_PARAM's the host's. */
    for (size_t i = 0; i < sizeof modulus / 2; i++) {
        unsigned char swap = modulus[i];
        modulus[i] = modulus[sizeof modulus - 1 - i];
        modulus[sizeof modulus - 1 - i] = swap;
    }
    assert_int_equal(read.ulValueLen, sizeof modulus);
    OSSL_PARAM params[] = {OSSL_PARAM_BN("n", modulus, sizeof modulus),
                           OSSL_PARAM_BN("e", exponent, sizeof exponent), OSSL_PARAM_END};
    EVP_PKEY *key = NULL;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
    IS(EVP_PKEY_fromdata_init(ctx), 1);
    IS(EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_PUBLIC_KEY, params), 1);
    EVP_PKEY_CTX_free(ctx);
    return key;
}

/* NSS: OAEP with SHA-256 and a label, and PSS. The needles are those of the key. */
static void rsa(void **state)
{
    (void)state;
    char found[8192];
    control(NULL, 0, "forget-needles");
    CK_OBJECT_HANDLE private = 0;
    EVP_PKEY *key = rsa_pair(&private);
    unsigned char sealed[256], out[256], label[] = "label", digest[32] = "thirty-two bytes";
    size_t n = sizeof sealed;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(key, NULL);
    IS(EVP_PKEY_encrypt_init(ctx), 1);
    IS(EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_OAEP_PADDING), 1);
    IS(EVP_PKEY_CTX_set_rsa_oaep_md(ctx, EVP_sha256()), 1);
    unsigned char *held = OPENSSL_memdup(label, sizeof label);
    IS(EVP_PKEY_CTX_set0_rsa_oaep_label(ctx, held, sizeof label), 1);
    IS(EVP_PKEY_encrypt(ctx, sealed, &n, (const unsigned char *)text, 32), 1);
    EVP_PKEY_CTX_free(ctx);
    CK_RSA_PKCS_OAEP_PARAMS oaep = {CKM_SHA256, CKG_MGF1_SHA256, CKZ_DATA_SPECIFIED, label,
                                    sizeof label};
    CK_MECHANISM mechanism = {CKM_RSA_PKCS_OAEP, &oaep, sizeof oaep};
    CK_ULONG len = sizeof out;
    IS(p11->C_DecryptInit(session, &mechanism, private), CKR_OK);
    IS(p11->C_Decrypt(session, sealed, n, out, &len), CKR_OK);
    assert_int_equal(len, 32);
    assert_memory_equal(out, text, 32);

    CK_RSA_PKCS_PSS_PARAMS pss = {CKM_SHA256, CKG_MGF1_SHA256, 32};
    mechanism = (CK_MECHANISM){CKM_RSA_PKCS_PSS, &pss, sizeof pss};
    len = sizeof out;
    IS(p11->C_SignInit(session, &mechanism, private), CKR_OK);
    IS(p11->C_Sign(session, digest, sizeof digest, out, &len), CKR_OK);
    ctx = EVP_PKEY_CTX_new(key, NULL);
    IS(EVP_PKEY_verify_init(ctx), 1);
    IS(EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PSS_PADDING), 1);
    IS(EVP_PKEY_CTX_set_signature_md(ctx, EVP_sha256()), 1);
    IS(EVP_PKEY_verify(ctx, out, len, digest, sizeof digest), 1);
    EVP_PKEY_CTX_free(ctx);

    control(found, sizeof found, "needles");
    char prime[257] = "";
    const char *names[] = {"rsa C_GenerateKeyPair p ", "rsa C_GenerateKeyPair q "};
    BIGNUM *p = NULL, *q = NULL, *modulus = NULL, *product = BN_new();
    BIGNUM **numbers[] = {&p, &q};
    BN_CTX *bn = BN_CTX_new();
    for (int i = 0; i < 2; i++) {
        const char *at = strstr(found, names[i]);
        assert_non_null(at);
        memcpy(prime, at + strlen(names[i]), 256);
        IS(BN_hex2bn(numbers[i], prime) > 0, 1);
    }
    IS(EVP_PKEY_get_bn_param(key, "n", &modulus), 1);
    IS(BN_mul(product, p, q, bn), 1);
    assert_int_equal(BN_cmp(product, modulus), 0);
    BN_free(p);
    BN_free(q);
    BN_free(product);
    BN_free(modulus);
    BN_CTX_free(bn);
    EVP_PKEY_free(key);
}

/* --- faults (on SoftHSM) ------------------------------------------------------------------------
 */

static CK_RV hmac(CK_OBJECT_HANDLE key, unsigned char out[64], CK_ULONG *len)
{
    CK_MECHANISM mechanism = {CKM_SHA256_HMAC, NULL, 0};
    CK_RV rv = p11->C_SignInit(session, &mechanism, key);
    memset(out, 0x77, 64);
    *len = 40; /* and 24 bytes that nobody may touch */
    return rv != CKR_OK ? rv : p11->C_Sign(session, (CK_BYTE *)(uintptr_t)text, 32, out, len);
}

static void outputs(void **state)
{
    (void)state;
    unsigned char right[64], out[64];
    CK_ULONG len = 0;
    CK_OBJECT_HANDLE key = secret(CKK_GENERIC_SECRET, aes, 32);
    IS(hmac(key, right, &len), CKR_OK);
    assert_int_equal(len, 32);
    static const struct {
        const char *rule;
        CK_ULONG claimed;
        size_t same; /* bytes that are as they should */
    } rows[] = {{"C_Sign 1 short", 16, 16},
                {"C_Sign 1 short=5", 5, 5},
                {"C_Sign 1 zero", 0, 0},
                {"C_Sign 1 oversize", 41, 32},
                {"C_Sign 1 oversize=100", 140, 32},
                {"C_Sign 1 huge", ~0UL >> 1, 32}};
    for (size_t i = 0; i < N_OF(rows); i++) {
        fault(rows[i].rule);
        IS(hmac(key, out, &len), CKR_OK);
        assert_int_equal(len, rows[i].claimed);
        assert_memory_equal(out, right, rows[i].same);
        for (size_t at = rows[i].same; at < sizeof out; at++)
            assert_int_equal(out[at], 0x77);
        IS(hmac(key, out, &len), CKR_OK); /* once only */
        assert_memory_equal(out, right, sizeof out);
        control(NULL, 0, "clear");
    }
    fault("C_Sign 2+ garble");
    IS(hmac(key, out, &len), CKR_OK);
    assert_memory_equal(out, right, 32);
    for (int i = 0; i < 2; i++) {
        IS(hmac(key, out, &len), CKR_OK);
        assert_int_equal(out[0] ^ right[0], 1);
        assert_memory_equal(out + 1, right + 1, 30);
        assert_int_equal(out[31] ^ right[31], 1);
    }
    control(NULL, 0, "clear");
    IS(p11->C_DestroyObject(session, key), CKR_OK);
}

static void codes(void **state)
{
    (void)state;
    unsigned char out[64];
    char found[512];
    CK_ULONG len = 0, cls = 0;
    CK_ATTRIBUTE at = {CKA_CLASS, &cls, sizeof cls};
    CK_OBJECT_HANDLE key = secret(CKK_GENERIC_SECRET, aes, 32);
    fault("C_SignInit 2-3 rv=0x30");
    IS(hmac(key, out, &len), CKR_OK);
    IS(hmac(key, out, &len), CKR_DEVICE_ERROR);
    IS(hmac(key, out, &len), CKR_DEVICE_ERROR);
    IS(hmac(key, out, &len), CKR_OK);
    control(found, sizeof found, "rules");
    assert_non_null(strstr(found, "C_SignInit 2-3 rv=0x30 seen 4 fired 2"));
    control(NULL, 0, "clear");
    fault("C_DestroyObject 1 rv-after=0x5");
    IS(p11->C_DestroyObject(session, key), CKR_GENERAL_ERROR);
    IS(p11->C_GetAttributeValue(session, key, &at, 1), CKR_OBJECT_HANDLE_INVALID); /* done */
    fault("* every rv=0x80000001");
    IS(p11->C_GetObjectSize(session, key, &len), 0x80000001UL);
    IS(p11->C_FindObjectsInit(session, NULL, 0), 0x80000001UL);
    control(NULL, 0, "clear");
    IS(p11->C_DigestEncryptUpdate(session, out, 1, out, &len), CKR_FUNCTION_NOT_SUPPORTED);
}

static void handles(void **state)
{
    (void)state;
    unsigned char out[64], other[64];
    CK_ULONG len = 0, cls = 0;
    CK_ATTRIBUTE at = {CKA_CLASS, &cls, sizeof cls};
    CK_OBJECT_HANDLE one = secret(CKK_GENERIC_SECRET, aes, 32);
    CK_OBJECT_HANDLE two = secret(CKK_GENERIC_SECRET, text, 32);
    IS(hmac(one, out, &len), CKR_OK);
    fault("C_SignInit 1 swap-handle");
    IS(hmac(two, other, &len), CKR_OK); /* by the other key */
    assert_memory_equal(out, other, 32);
    IS(hmac(two, other, &len), CKR_OK);
    assert_memory_not_equal(out, other, 32);
    fault("C_SignInit 1 forget-handle");
    IS(hmac(one, out, &len), CKR_KEY_HANDLE_INVALID);
    IS(hmac(one, out, &len), CKR_KEY_HANDLE_INVALID); /* for ever */
    IS(p11->C_GetAttributeValue(session, one, &at, 1), CKR_OBJECT_HANDLE_INVALID);
    IS(hmac(two, out, &len), CKR_OK);
    fault("C_CreateObject 1 forget-handle");
    CK_OBJECT_HANDLE three = secret(CKK_GENERIC_SECRET, text, 32);
    IS(hmac(three, out, &len), CKR_KEY_HANDLE_INVALID);
    control(NULL, 0, "clear");
}

static void login_again(void)
{
    IS(p11->C_Login(session, CKU_USER, last_pin, sizeof last_pin - 1), CKR_OK);
}

static CK_STATE state_of(CK_SESSION_HANDLE which)
{
    CK_SESSION_INFO info;
    IS(p11->C_GetSessionInfo(which, &info), CKR_OK);
    return info.state;
}

static void sessions(void **state)
{
    (void)state;
    CK_SESSION_INFO info;
    CK_BYTE random[8];
    IS(p11->C_GetSessionInfo(session, &info), CKR_OK);
    CK_SESSION_HANDLE first = session;
    fault("C_GenerateRandom 1 logout");
    IS(p11->C_GenerateRandom(session, random, sizeof random), CKR_OK);
    assert_int_equal(state_of(session), CKS_RW_PUBLIC_SESSION);
    login_again();
    open_session(info.slotID);
    fault("C_GenerateRandom 1 drop-session");
    IS(p11->C_GenerateRandom(first, random, sizeof random), CKR_SESSION_HANDLE_INVALID);
    assert_int_equal(state_of(session), CKS_RW_USER_FUNCTIONS);
    fault("C_GenerateRandom 1 drop-all");
    IS(p11->C_GenerateRandom(session, random, sizeof random), CKR_SESSION_HANDLE_INVALID);
    open_session(info.slotID);
    assert_int_equal(state_of(session), CKS_RW_PUBLIC_SESSION);
    login_again();
    control(NULL, 0, "clear");
}

static void *clear_later(void *unused)
{
    nanosleep(&(struct timespec){.tv_nsec = 300000000}, NULL);
    control(NULL, 0, "clear");
    return unused;
}

static void hang(void **state)
{
    (void)state;
    CK_BYTE random[8];
    pthread_t thread;
    struct timespec from, to;
    fault("C_GenerateRandom every hang");
    clock_gettime(CLOCK_MONOTONIC, &from);
    IS(pthread_create(&thread, NULL, clear_later, NULL), 0);
    CK_SESSION_INFO info;
    IS(p11->C_GetSessionInfo(session, &info), CKR_OK); /* others go on */
    IS(p11->C_GenerateRandom(session, random, sizeof random), CKR_OK);
    clock_gettime(CLOCK_MONOTONIC, &to);
    pthread_join(thread, NULL);
    assert_true((double)(to.tv_sec - from.tv_sec) + 1e-9 * (double)(to.tv_nsec - from.tv_nsec) >
                .29);
}

static void gone(void **state)
{
    (void)state;
    CK_BYTE random[8];
    CK_ULONG n = 9;
    CK_SLOT_ID slots[8];
    CK_SESSION_INFO info;
    IS(p11->C_GetSessionInfo(session, &info), CKR_OK);
    fault("C_GenerateRandom 1 die");
    IS(p11->C_GenerateRandom(session, random, sizeof random), CKR_DEVICE_ERROR);
    IS(p11->C_GetSessionInfo(session, &info), CKR_DEVICE_ERROR);
    IS(p11->C_Initialize(NULL), CKR_CRYPTOKI_ALREADY_INITIALIZED);
    IS(p11->C_Finalize(NULL), CKR_OK);
    IS(p11->C_GetSessionInfo(session, &info), CKR_CRYPTOKI_NOT_INITIALIZED);
    IS(p11->C_Initialize(NULL), CKR_OK);
    IS(p11->C_GetSessionInfo(session, &info), CKR_SESSION_HANDLE_INVALID);
    control(NULL, 0, "vanish");
    IS(p11->C_GetSessionInfo(session, &info), CKR_DEVICE_ERROR);
    IS(p11->C_Finalize(NULL), CKR_OK);
    IS(p11->C_Initialize(NULL), CKR_OK);
    IS(p11->C_GetSlotList(CK_TRUE, NULL, &n), CKR_OK);
    assert_int_equal(n, 0);
    control(NULL, 0, "back");
    IS(p11->C_GetSlotList(CK_TRUE, NULL, &n), CKR_OK);
    assert_int_equal(n, 0); /* not before it is initialised anew */
    IS(p11->C_Finalize(NULL), CKR_OK);
    IS(p11->C_Initialize(NULL), CKR_OK);
    n = N_OF(slots);
    IS(p11->C_GetSlotList(CK_TRUE, slots, &n), CKR_OK);
    assert_true(n > 0);
    open_session(slots[0]);
    login_again();
}

int main(void)
{
    const struct CMUnitTest on_softhsm[] = {
        cmocka_unit_test(gcm),   cmocka_unit_test(cbc),     cmocka_unit_test(derive_by_data),
        cmocka_unit_test(ecdh),  cmocka_unit_test(nested),  cmocka_unit_test(outputs),
        cmocka_unit_test(codes), cmocka_unit_test(handles), cmocka_unit_test(sessions),
        cmocka_unit_test(hang),  cmocka_unit_test(gone),
    };
    const struct CMUnitTest on_nss[] = {
        cmocka_unit_test(gcm),
        cmocka_unit_test(cbc),
        cmocka_unit_test(pbkdf2),
        cmocka_unit_test(rsa),
    };
    return cmocka_run_group_tests(on_softhsm, softhsm, end) +
           cmocka_run_group_tests(on_nss, nss, end);
}

/* Cryptoki's functions, in the order of CK_FUNCTION_LIST: their numbers on the socket. */
#ifndef TT_NAMES_H
#define TT_NAMES_H

/* clang-format off */
#define TT_FUNCTIONS(X)                                                                            \
    X(Initialize) X(Finalize) X(GetInfo) X(GetFunctionList) X(GetSlotList) X(GetSlotInfo)          \
    X(GetTokenInfo) X(GetMechanismList) X(GetMechanismInfo) X(InitToken) X(InitPIN) X(SetPIN)      \
    X(OpenSession) X(CloseSession) X(CloseAllSessions) X(GetSessionInfo) X(GetOperationState)      \
    X(SetOperationState) X(Login) X(Logout) X(CreateObject) X(CopyObject) X(DestroyObject)         \
    X(GetObjectSize) X(GetAttributeValue) X(SetAttributeValue) X(FindObjectsInit) X(FindObjects)   \
    X(FindObjectsFinal) X(EncryptInit) X(Encrypt) X(EncryptUpdate) X(EncryptFinal) X(DecryptInit)  \
    X(Decrypt) X(DecryptUpdate) X(DecryptFinal) X(DigestInit) X(Digest) X(DigestUpdate)            \
    X(DigestKey) X(DigestFinal) X(SignInit) X(Sign) X(SignUpdate) X(SignFinal) X(SignRecoverInit)  \
    X(SignRecover) X(VerifyInit) X(Verify) X(VerifyUpdate) X(VerifyFinal) X(VerifyRecoverInit)     \
    X(VerifyRecover) X(DigestEncryptUpdate) X(DecryptDigestUpdate) X(SignEncryptUpdate)            \
    X(DecryptVerifyUpdate) X(GenerateKey) X(GenerateKeyPair) X(WrapKey) X(UnwrapKey) X(DeriveKey)  \
    X(SeedRandom) X(GenerateRandom) X(GetFunctionStatus) X(CancelFunction) X(WaitForSlotEvent)
/* clang-format on */

enum tt_function {
#define TT_ENUM(name) TT_##name,
    TT_FUNCTIONS(TT_ENUM)
#undef TT_ENUM
    TT_COUNT
};

/* "C_Sign"; "?" for what isn't a function. */
const char *tt_name(unsigned function);
/* The reverse; TT_COUNT for what isn't one. */
unsigned tt_function_of(const char *name);

#endif

"""Opens what is sealed to the encryption key, many times and quickly: straight through the token's
own library, and an OAEP decoding of our own (hsm_rig)."""

import ctypes
import os

import hsm_rig as rig

ULONG = ctypes.c_ulong
# Places in CK_FUNCTION_LIST (PKCS#11 2.40 section 5.1), behind the version.
INITIALIZE, FINALIZE, GET_SLOT_LIST, GET_TOKEN_INFO, OPEN_SESSION, LOGIN = 0, 1, 4, 6, 12, 18
FIND_INIT, FIND, FIND_FINAL, DECRYPT_INIT, DECRYPT = 26, 27, 28, 33, 34
CKA_CLASS, CKA_LABEL, CKO_PRIVATE_KEY, CKM_RSA_X_509 = 0, 3, 3, 3


class Attribute(ctypes.Structure):
    _fields_ = [("type", ULONG), ("value", ctypes.c_void_p), ("length", ULONG)]


class Mechanism(ctypes.Structure):
    _fields_ = [("mechanism", ULONG), ("parameter", ctypes.c_void_p), ("length", ULONG)]


class Opener:
    """A SoftHSM token in this very process; its configuration comes from the environment."""

    def __init__(self, module, environment, label, pin):
        os.environ.update(environment)
        self.library = ctypes.CDLL(module)
        table = ctypes.c_void_p()
        self.library.C_GetFunctionList(ctypes.byref(table))
        self.table = ctypes.cast(table.value + ctypes.sizeof(ctypes.c_void_p),
                                 ctypes.POINTER(ctypes.c_void_p))
        self.call(INITIALIZE, None)
        self.session = ULONG()
        self.call(OPEN_SESSION, self.slot(label), ULONG(4), None, None,
                  ctypes.byref(self.session))
        pin = pin.encode()
        self.call(LOGIN, self.session, ULONG(1), pin, ULONG(len(pin)))
        self.key = None

    def call(self, place, *arguments):
        function = ctypes.CFUNCTYPE(ULONG)(self.table[place])
        function.argtypes = None
        answer = function(*arguments)
        assert answer == 0, (place, hex(answer))

    def slot(self, label):
        count = ULONG(64)
        slots = (ULONG * 64)()
        self.call(GET_SLOT_LIST, ctypes.c_ubyte(1), slots, ctypes.byref(count))
        for slot in slots[:count.value]:
            info = ctypes.create_string_buffer(512)
            self.call(GET_TOKEN_INFO, ULONG(slot), info)
            if info.raw[:32].rstrip(b" ") == label.encode():
                return ULONG(slot)
        raise AssertionError("no token %s" % label)

    def find(self, label):
        cls = ULONG(CKO_PRIVATE_KEY)
        text = label.encode()
        held = ctypes.create_string_buffer(text, len(text))
        match = (Attribute * 2)(Attribute(CKA_CLASS, ctypes.addressof(cls), ctypes.sizeof(cls)),
                                Attribute(CKA_LABEL, ctypes.addressof(held), len(text)))
        found, count = (ULONG * 4)(), ULONG()
        self.call(FIND_INIT, self.session, match, ULONG(2))
        self.call(FIND, self.session, found, ULONG(4), ctypes.byref(count))
        self.call(FIND_FINAL, self.session)
        assert count.value == 1, (label, count.value)
        return ULONG(found[0])

    def open(self, sealed, hash_name="sha512"):
        """The password."""
        if self.key is None:
            self.key = self.find("pfx-agent encryption-1")
        how = Mechanism(CKM_RSA_X_509, None, 0)
        out, length = ctypes.create_string_buffer(1024), ULONG(1024)
        self.call(DECRYPT_INIT, self.session, ctypes.byref(how), self.key)
        self.call(DECRYPT, self.session, sealed, ULONG(len(sealed)), out, ctypes.byref(length))
        return rig.oaep_decode(out.raw[:length.value], len(sealed), hash_name)

    def close(self):
        self.call(FINALIZE, None)

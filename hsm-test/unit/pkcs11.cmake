# The PKCS#11 library on real tokens: SoftHSM and NSS softokn in a folder of their own.
add_library(pkcs11_env STATIC ${CMAKE_CURRENT_LIST_DIR}/pkcs11_env.c)
target_link_libraries(pkcs11_env PUBLIC pfx_pkcs11 PkgConfig::CMOCKA ${CMAKE_DL_LIBS})
foreach(part IN ITEMS probe token lost pin keys use export)
    pfx_unit(pkcs11_${part} pkcs11_env)
    set_tests_properties(pkcs11_${part} PROPERTIES TIMEOUT 300)
endforeach()

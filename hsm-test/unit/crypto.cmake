# Formats in memory. The oracles are other people's programs, run by crypto_tool.
add_library(crypto_tool STATIC ${CMAKE_CURRENT_LIST_DIR}/crypto_tool.c)
target_link_libraries(crypto_tool PUBLIC pfx_crypto PkgConfig::CMOCKA)
target_compile_definitions(crypto_tool PRIVATE
    CRYPTO_ORACLE="${CMAKE_CURRENT_LIST_DIR}/crypto_oracle.py")

pfx_unit(crypto_base pfx_crypto)
pfx_unit(crypto_secret pfx_crypto PkgConfig::SECCOMP)
pfx_unit(crypto_key crypto_tool)
pfx_unit(crypto_csr crypto_tool)
pfx_unit(crypto_pfx crypto_tool)
pfx_unit(crypto_oaep crypto_tool)
pfx_unit(crypto_jwt crypto_tool)
pfx_unit(crypto_ticket pfx_crypto)
pfx_unit(crypto_cert crypto_tool)
if(NOT PFX_SANITIZE) # which have their own malloc
    pfx_unit(crypto_wipe pfx_crypto Threads::Threads ${CMAKE_DL_LIBS})
    target_sources(crypto_wipe PRIVATE ${PFX_WIPE})
endif()
foreach(part IN ITEMS tree tile vkey checkpoint receipt)
    pfx_unit(crypto_${part} crypto_tool)
    target_compile_definitions(crypto_${part} PRIVATE
        LOG_ORACLE="${CMAKE_CURRENT_LIST_DIR}/log_oracle.py")
endforeach()
pfx_unit(crypto_draft pfx_crypto)
pfx_unit(crypto_minutes pfx_crypto)
pfx_unit(crypto_changes pfx_crypto)
pfx_unit(crypto_lifecycle pfx_crypto)
pfx_unit(crypto_schedule pfx_crypto)
pfx_unit(crypto_overlap pfx_crypto)
pfx_unit(crypto_canon_write pfx_crypto)
foreach(part IN ITEMS canon entry)
    pfx_unit(crypto_${part} crypto_tool)
    target_compile_definitions(crypto_${part} PRIVATE
        CANON_ORACLE="${CMAKE_CURRENT_LIST_DIR}/canon_oracle.py")
endforeach()
# Signatures of people, against ssh-keygen.
pfx_unit(crypto_sshsig crypto_tool)
target_compile_definitions(crypto_sshsig PRIVATE
    SSH_ORACLE="${CMAKE_CURRENT_LIST_DIR}/ssh_oracle.py")

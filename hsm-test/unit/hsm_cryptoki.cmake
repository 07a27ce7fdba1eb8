# A token in another process, and the module that reaches it; hsm-test/cryptoki/README.md. Programs
# and modules without sanitizers meet in both, so they have none.
set(cryptoki_dir ${CMAKE_CURRENT_LIST_DIR}/../cryptoki)
add_library(pfx_test_token MODULE ${cryptoki_dir}/module.c ${cryptoki_dir}/link.c
    ${cryptoki_dir}/values.c ${cryptoki_dir}/wire.c)
set_target_properties(pfx_test_token PROPERTIES C_VISIBILITY_PRESET hidden)
add_executable(pfx-test-token ${cryptoki_dir}/token.c ${cryptoki_dir}/serve.c
    ${cryptoki_dir}/ahead.c ${cryptoki_dir}/calls.c ${cryptoki_dir}/faults.c ${cryptoki_dir}/handles.c
    ${cryptoki_dir}/needles.c ${cryptoki_dir}/values.c ${cryptoki_dir}/wire.c)
foreach(target IN ITEMS pfx_test_token pfx-test-token)
    target_link_libraries(${target} PRIVATE $<$<NOT:$<BOOL:${PFX_SANITIZE}>>:pfx_flags>
        PkgConfig::P11KIT ${CMAKE_DL_LIBS} Threads::Threads)
    target_compile_definitions(${target} PRIVATE _GNU_SOURCE)
    target_include_directories(${target} PRIVATE ${CMAKE_SOURCE_DIR})
endforeach()
target_link_libraries(pfx-test-token PRIVATE PkgConfig::OPENSSL)
# The module that it loads is to find ahead.c's RSA_generate_key_ex.
target_link_options(pfx-test-token PRIVATE -Wl,--export-dynamic-symbol=RSA_generate_key_ex)
pfx_unit(hsm_test_token PkgConfig::OPENSSL PkgConfig::P11KIT Threads::Threads ${CMAKE_DL_LIBS})
target_compile_definitions(hsm_test_token PRIVATE _GNU_SOURCE
    TEST_TOKEN_MODULE="$<TARGET_FILE:pfx_test_token>"
    TEST_TOKEN_SERVER="$<TARGET_FILE:pfx-test-token>")
# Every call of an enrolment and every fault; all of them with PFX_LONG=1. The start and the ceremony,
# and what is another thing on NSS (tier direct), by the release build.
set(grid ${CMAKE_CURRENT_LIST_DIR}/hsm_grid.py)
set(grids hsm_grid)
pfx_hsm_test(hsm_grid softhsm-remote ${grid} Found Operations)
set_tests_properties(hsm_grid PROPERTIES LABELS program)
if(NOT PFX_SANITIZE)
    pfx_hsm_test(hsm_grid_start softhsm-remote ${grid} Start Ceremony)
    pfx_hsm_test(hsm_grid_nss nss-remote ${grid} Found Operations)
    list(APPEND grids hsm_grid_start hsm_grid_nss)
endif()
foreach(test IN LISTS grids)
    set_property(TEST ${test} APPEND PROPERTY ENVIRONMENT "PFX_AUDIT=$<TARGET_FILE:pfx-audit>")
    set_property(TEST ${test} PROPERTY TIMEOUT) # ctest's own, which run.sh --long makes longer
endforeach()
# The record of a ceremony; the encryption token is behind the module that counts. And approvals with
# tokens that are late or fail.
foreach(test IN ITEMS hsm_ceremony hsm_pages hsm_approval_late)
    pfx_hsm_test(${test} softhsm ${CMAKE_CURRENT_LIST_DIR}/${test}.py)
    set_tests_properties(${test} PROPERTIES LABELS program)
    set_property(TEST ${test} APPEND PROPERTY ENVIRONMENT "PFX_AUDIT=$<TARGET_FILE:pfx-audit>")
endforeach()
# Killed on the way to a page: the program that ends itself at a named point.
pfx_hsm_test(hsm_pages_killed softhsm ${CMAKE_CURRENT_LIST_DIR}/hsm_pages_killed.py)
set_tests_properties(hsm_pages_killed PROPERTIES LABELS program)
set_property(TEST hsm_pages_killed APPEND PROPERTY ENVIRONMENT "PFX_AUDIT=$<TARGET_FILE:pfx-audit>"
    "PFX_KILL_HSM=$<TARGET_FILE:kill-hsm>")
# p11-kit's remoting, its server killed under load.
pfx_unit(pkcs11_remoting pkcs11_env)
set_tests_properties(pkcs11_remoting PROPERTIES TIMEOUT 300)

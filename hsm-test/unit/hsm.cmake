# pfx-hsm: what needs no token by cmocka; the program itself, on real tokens, by Python.
pfx_unit(hsm_formats pfx_hsm)
pfx_unit(hsm_queue pfx_hsm)

# The operation log's writer, with a token in memory; another program reads what it wrote.
add_library(hsm_oplog_rig STATIC ${CMAKE_CURRENT_LIST_DIR}/hsm_oplog_rig.c)
target_link_libraries(hsm_oplog_rig PUBLIC pfx_oplog PkgConfig::CMOCKA)
target_compile_definitions(hsm_oplog_rig PRIVATE
    LOG_CHECK="${CMAKE_CURRENT_LIST_DIR}/../tools/log_check.py")
pfx_unit(hsm_oplog hsm_oplog_rig)
pfx_unit(hsm_oplog_files hsm_oplog_rig)
pfx_unit(hsm_oplog_disk hsm_oplog_rig)
pfx_unit(hsm_oplog_limits hsm_oplog_rig)
target_link_options(hsm_oplog_limits PRIVATE -Wl,--wrap=clock_gettime,--wrap=open)
pfx_unit(hsm_log_notes hsm_oplog_rig pfx_hsm)
target_link_options(hsm_log_notes PRIVATE -Wl,--wrap=clock_gettime)
pfx_unit(hsm_oplog_again hsm_oplog_rig)
pfx_unit(hsm_oplog_steps hsm_oplog_rig)
target_sources(hsm_oplog_steps PRIVATE ${CMAKE_CURRENT_LIST_DIR}/hsm_oplog_faults.c)
set_tests_properties(hsm_oplog_steps PROPERTIES TIMEOUT 1800) # with PFX_LONG=1 some 2,400 processes
if(PFX_SANITIZE) # each process costs more; the rest is the release build's
    set_tests_properties(hsm_oplog_steps PROPERTIES ENVIRONMENT PFX_STEPS_FEW=1)
endif()

add_library(hsm_slow_module MODULE ${CMAKE_CURRENT_LIST_DIR}/hsm_slow_module.c)
set_target_properties(hsm_slow_module PROPERTIES PREFIX "")
# Programs that have no sanitizer load it, too.
target_link_libraries(hsm_slow_module PRIVATE $<$<NOT:$<BOOL:${PFX_SANITIZE}>>:pfx_flags>
    PkgConfig::P11KIT ${CMAKE_DL_LIBS})

# Debian's own, which has python3-cryptography.
find_program(PFX_PYTHON3 python3 PATHS /usr/bin NO_DEFAULT_PATH REQUIRED)
set(hsm_tools ${CMAKE_CURRENT_LIST_DIR}/../tools)
# pfx_hsm_test(name token command...): what runs the program; PFX_TOKEN says on which tokens.
function(pfx_hsm_test name token)
    add_test(NAME ${name} COMMAND ${PFX_PYTHON3} ${ARGN})
    set_tests_properties(${name} PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 600 ENVIRONMENT
        "PFX_HSM=$<TARGET_FILE:pfx-hsm>;PFX_AGENT=$<TARGET_FILE:pfx-agent>;PFX_AUDIT=$<TARGET_FILE:pfx-audit>;PFX_HSM_SLOW_MODULE=$<TARGET_FILE:hsm_slow_module>;PFX_TOKEN_INIT=$<TARGET_FILE:token-init>;PFX_TOKEN=${token};PFX_TEST_SLOW=$<IF:$<BOOL:${PFX_SANITIZE}>,10,3>")
endfunction()
foreach(name IN ITEMS hsm_flow hsm_generation hsm_lies hsm_user_destroy hsm_faults hsm_log hsm_log_faults hsm_approval
    hsm_approval_again hsm_standing)
    pfx_hsm_test(${name} softhsm ${CMAKE_CURRENT_LIST_DIR}/${name}.py)
    set_tests_properties(${name} PROPERTIES LABELS program)
endforeach()
# The other tokens, and what the probe finds on each, by the release build only: the sanitizers see
# the same code of ours on SoftHSM, and NSS by the pkcs11_* tests.
if(NOT PFX_SANITIZE)
    foreach(name IN ITEMS hsm_flow hsm_lies hsm_faults)
        pfx_hsm_test(${name}_nss nss ${CMAKE_CURRENT_LIST_DIR}/${name}.py)
    endforeach()
    pfx_hsm_test(hsm_opencryptoki softhsm ${hsm_tools}/opencryptoki.py ${PFX_PYTHON3}
        ${CMAKE_CURRENT_LIST_DIR}/hsm_opencryptoki.py)
    foreach(token IN ITEMS softhsm nss opencryptoki)
        pfx_hsm_test(golden_${token} softhsm ${hsm_tools}/golden.py --kind ${token})
    endforeach()
endif()

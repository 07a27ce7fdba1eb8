# pfx-hsm: what needs no token by cmocka; the program itself, on SoftHSM, by Python.
pfx_unit(hsm_formats pfx_hsm)
pfx_unit(hsm_queue pfx_hsm)

add_library(hsm_slow_module MODULE ${CMAKE_CURRENT_LIST_DIR}/hsm_slow_module.c)
set_target_properties(hsm_slow_module PROPERTIES PREFIX "")
target_link_libraries(hsm_slow_module PRIVATE pfx_flags PkgConfig::P11KIT ${CMAKE_DL_LIBS})

# Debian's own, which has python3-cryptography.
find_program(PFX_PYTHON3 python3 PATHS /usr/bin NO_DEFAULT_PATH REQUIRED)
foreach(name IN ITEMS hsm_flow hsm_lies hsm_faults)
    add_test(NAME ${name} COMMAND ${PFX_PYTHON3} ${CMAKE_CURRENT_LIST_DIR}/${name}.py)
    set_tests_properties(${name} PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 600 ENVIRONMENT
        "PFX_HSM=$<TARGET_FILE:pfx-hsm>;PFX_HSM_SLOW_MODULE=$<TARGET_FILE:hsm_slow_module>;PFX_TEST_SLOW=$<IF:$<BOOL:${PFX_SANITIZE}>,10,3>")
endforeach()

# pfx-audit verify: the oracle that makes the logs is Python (hsm-test/tools/export_make.py).
add_executable(audit_tool ${CMAKE_CURRENT_LIST_DIR}/audit_tool.c)
target_link_libraries(audit_tool PRIVATE pfx_audit_core)
pfx_unit(audit_sorter pfx_audit_core)

find_program(PFX_PYTHON3 python3 PATHS /usr/bin NO_DEFAULT_PATH REQUIRED)
foreach(name IN ITEMS audit_tamper audit_meaning audit_lawful audit_trust audit_approvals audit_life)
    add_test(NAME ${name} COMMAND ${PFX_PYTHON3} -B ${CMAKE_CURRENT_LIST_DIR}/${name}.py)
    set_tests_properties(${name} PROPERTIES TIMEOUT 600 ENVIRONMENT
        "PFX_AUDIT=$<TARGET_FILE:pfx-audit>;PFX_AUDIT_TOOL=$<TARGET_FILE:audit_tool>;PFX_AUDIT_STRIDE=$<IF:$<BOOL:${PFX_SANITIZE}>,16,1>")
endforeach()

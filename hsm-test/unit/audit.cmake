# pfx-audit's reading commands; what verify finds is in audit_verify.cmake.
foreach(name IN ITEMS audit_show audit_history audit_damaged audit_poison audit_prove
        audit_ceremony)
    add_test(NAME ${name} COMMAND /usr/bin/python3 -B ${CMAKE_CURRENT_LIST_DIR}/${name}.py)
    set_tests_properties(${name} PROPERTIES LABELS program TIMEOUT 300 ENVIRONMENT
        "PFX_AUDIT=$<TARGET_FILE:pfx-audit>;PFX_SANITIZED=$<BOOL:${PFX_SANITIZE}>")
endforeach()

# A pfx-uploader and a pfx-agentd that lie, against the real programs. Their lies come from the
# protocol's own tables; PFX_LONG=1 tells all of them. What such a process can do all the same is in
# e2e/test_hostile.py and in SECURITY.md.
foreach(name IN ITEMS hostile_uploader hostile_agentd hostile_hsm)
    add_test(NAME ${name} COMMAND /usr/bin/python3 -B ${CMAKE_CURRENT_SOURCE_DIR}/unit/${name}.py)
    set_tests_properties(${name} PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 600 LABELS program ENVIRONMENT
        "PFX_AGENTD=$<TARGET_FILE:pfx-agentd>;PFX_UPLOADER=$<TARGET_FILE:pfx-uploader>;PFX_AGENT=$<TARGET_FILE:pfx-agent>;PFX_HSM=$<TARGET_FILE:pfx-hsm>;PFX_HSM_SLOW_MODULE=$<TARGET_FILE:hsm_slow_module>;PFX_TOKEN_INIT=$<TARGET_FILE:token-init>;PFX_TOKEN=softhsm;PFX_WIRE_TABLES=$<TARGET_FILE:wire-tables>;PFX_TEST_SLOW=$<IF:$<BOOL:${PFX_SANITIZE}>,10,3>")
endforeach()

# pfx-agentd: its pure parts and its store by cmocka; the program itself between two made-up arms.
pfx_unit(agent_flow_table pfx_agent)
pfx_unit(agent_user pfx_agent)
pfx_unit(agent_store pfx_agent)
foreach(part IN ITEMS flow edges kill)
    add_test(NAME agent_${part} COMMAND /usr/bin/python3 -B
             ${CMAKE_CURRENT_SOURCE_DIR}/unit/agent_${part}.py)
    set_tests_properties(agent_${part} PROPERTIES TIMEOUT 600 ENVIRONMENT
        "PFX_AGENTD=$<TARGET_FILE:pfx-agentd>")
endforeach()

# pfx-agentd: its pure parts and its store by cmocka; the program itself between two made-up arms, many
# worlds side by side.
pfx_unit(agent_flow_table pfx_agent)
pfx_unit(agent_user pfx_agent)
pfx_unit(agent_store pfx_agent)
pfx_unit(agent_note pfx_agent)
foreach(part IN ITEMS flow answers edges kill hostile after operator revoked restored notes
        notes_queue rebuild rewrap compromise discard crowd)
    add_test(NAME agent_${part} COMMAND /usr/bin/python3 -B
             ${CMAKE_CURRENT_SOURCE_DIR}/unit/agent_${part}.py)
    set_tests_properties(agent_${part} PROPERTIES TIMEOUT 600 LABELS program ENVIRONMENT
        "PFX_AGENTD=$<TARGET_FILE:pfx-agentd>")
endforeach()
# Names and addresses of 20 and more scripts, against uconv, idna and openssl.
add_executable(agent_names_tool unit/agent_names_tool.c)
target_link_libraries(agent_names_tool PRIVATE pfx_agent)
add_test(NAME agent_names COMMAND /usr/bin/python3 -B ${CMAKE_CURRENT_SOURCE_DIR}/unit/agent_names.py
         $<TARGET_FILE:agent_names_tool>)
foreach(part IN ITEMS mailbox:Mailboxes turn:Turns)
    string(REPLACE ":" ";" part ${part})
    list(POP_FRONT part name)
    add_test(NAME agent_${name} COMMAND /usr/bin/python3 -B
             ${CMAKE_CURRENT_SOURCE_DIR}/unit/agent_${name}.py ${part})
    set_tests_properties(agent_${name} PROPERTIES TIMEOUT 300 LABELS program ENVIRONMENT
        "PFX_AGENTD=$<TARGET_FILE:pfx-agentd>")
endforeach()
set_tests_properties(agent_names PROPERTIES TIMEOUT 120 SKIP_RETURN_CODE 77)

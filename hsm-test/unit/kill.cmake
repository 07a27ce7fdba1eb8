# Each point at which a process may die (kill_points.h): the product's own objects, which end
# themselves where e2e/test_kill.py says.
function(pfx_kill_program name main)
    cmake_parse_arguments(PARSE_ARGV 2 arg "" "" "LIBRARIES;WRAP")
    add_executable(${name} ${CMAKE_SOURCE_DIR}/${main} unit/kill_points.c ${arg_UNPARSED_ARGUMENTS})
    target_link_libraries(${name} PRIVATE ${arg_LIBRARIES})
    foreach(symbol IN LISTS arg_WRAP ITEMS pfx_conn_next pfx_conn_send pfx_conn_pump pfx_conn_free)
        target_link_options(${name} PRIVATE -Wl,--wrap=${symbol})
    endforeach()
endfunction()
pfx_kill_program(kill-agentd agent/main.c unit/kill_agentd.c LIBRARIES pfx_agent
    WRAP sqlite3_step pfx_outbox_send pfx_handout_take pfx_handout_hello pfx_steps_apply
    pfx_notes_start pfx_notes_tick pfx_pass_tick pfx_pass_start pfx_evaluate_some pfx_orders_tick
    pfx_orders_poll pfx_run_step pfx_agent_tick pfx_counter_step pfx_rebuild_tick pfx_rewrap_tick
    pfx_discard_tick pfx_compromise_tick)
pfx_kill_program(kill-hsm pkcs11/hsm/main.c unit/kill_hsm.c ${PFX_WIPE} LIBRARIES pfx_hsm
    WRAP pfx_watchdog_start pfx_op_run pfx_hsmlog_intent pfx_hsmlog_result pfx_file_replace
    pfx_probe_run pfx_oplog_open pfx_approvals_require pfx_do_approval_give)
pfx_kill_program(kill-uploader api/uploader/main.c unit/kill_uploader.c ${PFX_WIPE}
    LIBRARIES pfx_uploader_parts WRAP pfx_http_start)

pfx_unit(cli_parse pfx_cli)
pfx_unit(cli_text pfx_cli)
pfx_unit(cli_ask pfx_cli)
pfx_unit(cli_file pfx_cli)

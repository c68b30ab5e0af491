GatewayDaemon.main()

import ConfigurationFiles

/// The whole of ipsec.conf: read, expanded, printed in every way, printed as isakmpd's commands.
enum IPsecConfTarget: FuzzTarget {
  static func fuzz(_ input: FuzzInput) {
    let text = String(decoding: input.rest, as: UTF8.self)
    // Key and include files of the machine stay unread.
    guard !text.contains("file"), !text.contains("include"), text.utf8.count < 8192 else { return }
    guard let conf = try? IPsecConf.parse(text: text, resolver: .numericOnly) else { return }
    for options in [PrintOptions(), PrintOptions(verbosity: 2, showsKeys: true), PrintOptions(deletes: true)] {
      _ = RulePrinter(options: options).output(conf.echo)
    }
    _ = try? conf.connections()
  }
}

enum GatewayYAMLTarget: FuzzTarget {
  static func fuzz(_ input: FuzzInput) {
    _ = try? GatewayConfiguration(yaml: String(decoding: input.rest, as: UTF8.self))
  }
}

import Engines
import IPsec
import Wire

/// Rules as `ipsecctl -v` prints them while it loads a file.
public struct RulePrinter: Sendable {
  public var options: PrintOptions

  public init(options: PrintOptions) { self.options = options }

  /// What goes to stdout and to stderr.
  public struct Output: Sendable {
    public var text = ""
    /// `ike` rules that isakmpd has no words for; the text ends where that was found out.
    public var diagnostics: [Diagnostic] = []
  }

  /// Nothing without `-v`.
  public func output(_ echo: [IPsecConf.Echo]) -> Output {
    var output = Output()
    guard options.verbosity > 0 else { return output }
    for item in echo {
      switch item {
      case .macro(let name, let value): output.text += "\(name) = \"\(value)\"\n"
      case .rule(let rule): append(rule, to: &output)
      }
    }
    return output
  }

  private func append(_ rule: Rule, to output: inout Output) {
    if options.verbosity > 1 { output.text += "@\(rule.number) " }
    switch rule.body {
    case .flow(let flow): output.text += RuleText.flow(flow)
    case .sa(let sa): output.text += text(sa)
    case .bundle(let bundle): output.text += RuleText.bundle(bundle)
    case .ike(let ike):
      let commands = IKECommands(ike, options: options)
      output.text += commands.text
      if let failure = commands.failure { output.diagnostics.append(Diagnostic(.program, failure)) }
    }
  }

  private func text(_ sa: SARule) -> String {
    RuleText.sa(
      RuleText.SALine(
        saProtocol: sa.saProtocol, mode: sa.mode, source: sa.source.text, destination: sa.destination.text, spi: sa.spi,
        authentication: sa.transforms?.authentication?.rawValue, encryption: sa.transforms?.encryption?.rawValue,
        compression: sa.transforms?.compression?.rawValue, authenticationKey: sa.authenticationKey,
        encryptionKey: sa.encryptionKey), showsKeys: options.showsKeys)
  }
}

/// The lines that rules and records of the database share.
enum RuleText {
  /// With `-c`, the sources and destinations merged in are added in braces.
  static func flow(
    _ flow: FlowRule, collapsed: (sources: [Host], destinations: [Host])? = nil, ports: (String?, String?)? = nil
  ) -> String {
    var text = "flow \(flow.saProtocol.rawValue) \(flow.direction == .out ? "out" : "in")"
    if flow.ipProtocol != 0 { text += " proto \(NetworkNames.protocolName(flow.ipProtocol))" }
    text += " from \(hosts(flow.source, collapsed?.sources))"
    text += port(ports?.0, flow.sourcePort, flow.ipProtocol)
    text += " to \(hosts(flow.destination, collapsed?.destinations))"
    text += port(ports?.1, flow.destinationPort, flow.ipProtocol)
    if let local = flow.local { text += " local \(local.text)" }
    if let peer = flow.peer { text += " peer \(peer.text)" }
    if let source = flow.identities?.source { text += " srcid \(source)" }
    if let destination = flow.identities?.destination { text += " dstid \(destination)" }
    return text + " type \(flow.type)\n"
  }

  private static func hosts(_ host: Host, _ others: [Host]?) -> String {
    guard let others else { return host.text }
    return "{ \(([host] + others).map(\.text).joined(separator: ", ")) }"
  }

  private static func port(_ range: String?, _ port: UInt16, _ ipProtocol: UInt8) -> String {
    if let range { return " port \(range)" }
    return port == 0 ? "" : " port \(NetworkNames.portName(port, tcp: ipProtocol == 6))"
  }

  /// What the line about an SA says.
  struct SALine {
    var saProtocol: RuleProtocol
    var mode: SAMode
    var source: String
    var destination: String
    var spi: UInt32
    var authentication: String?
    var encryption: String?
    var compression: String?
    var authenticationKey: SecretBytes?
    var encryptionKey: SecretBytes?
  }

  static func sa(_ sa: SALine, showsKeys: Bool) -> String {
    let isTCP = sa.saProtocol == .tcpmd5
    var text = "\(sa.saProtocol.rawValue) "
    if !isTCP && sa.saProtocol != .ipip { text += "\(sa.mode) " }
    text += "from \(sa.source) to \(sa.destination) spi \(hex(sa.spi))"
    if !isTCP {
      if let name = sa.authentication { text += " auth \(name)" }
      if let name = sa.encryption { text += " enc \(name)" }
      if let name = sa.compression { text += " comp \(name)" }
    }
    if showsKeys {
      let separator = isTCP ? " " : " \\\n\t"
      if let key = sa.authenticationKey { text += "\(separator)authkey 0x\(key.revealedHex())" }
      if let key = sa.encryptionKey { text += "\(separator)enckey 0x\(key.revealedHex())" }
    }
    return text + "\n"
  }

  static func bundle(_ bundle: BundleRule) -> String {
    let (first, then) = (bundle.first, bundle.then)
    return "[bundle \(first.saProtocol.rawValue) to \(first.destination.text) spi \(hex(first.spi))"
      + " with \(then.saProtocol.rawValue) to \(then.destination.text) spi \(hex(then.spi))]\n"
  }

  /// `0x` and eight digits.
  static func hex(_ value: UInt32) -> String {
    let digits = String(value, radix: 16)
    return "0x" + String(repeating: "0", count: 8 - digits.count) + digits
  }
}

import ConfigurationFiles
import Machine

/// A key daemon of Debian's, and its unit.
struct KeyDaemonUnit: Equatable {
  var unit: String
  var program: String

  static let all = [
    KeyDaemonUnit(unit: "strongswan", program: "/usr/sbin/charon-systemd"),
    KeyDaemonUnit(unit: "strongswan-starter", program: "/usr/lib/ipsec/starter"),
    KeyDaemonUnit(unit: "openiked", program: "/usr/sbin/iked"),
    KeyDaemonUnit(unit: "ipsec", program: "/usr/libexec/ipsec/pluto"),
  ]

  static func installed(_ files: MachineFiles) -> [KeyDaemonUnit] { all.filter { files.exists($0.program) } }
}

extension Examination {
  func keyFindings() -> [Finding] {
    let daemons = KeyDaemonUnit.installed(files)
    guard !daemons.isEmpty else {
      return [.good("key daemon", "none is installed; keys come from ipsec.conf")]
    }
    return daemons.flatMap { daemon -> [Finding] in
      let subject = "key daemon \(daemon.unit)"
      let folders = ["/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"]
      guard folders.contains(where: { files.exists("\($0)/\(daemon.unit).service.d/gw.conf") }) else {
        return [.bad(subject, "it keys the kernel, not the gateway", "apt install gw-ikeshim")]
      }
      guard files.exists("/usr/lib/gw/libikeshim.so") else {
        return [
          .bad(
            subject, "its unit loads /usr/lib/gw/libikeshim.so, which is not there",
            "apt install --reinstall gw-ikeshim")
        ]
      }
      guard folders.contains(where: { files.exists("\($0)/gwd.service.wants/\(daemon.unit).service") }) else {
        return [
          .warning(
            subject, "it does not come back when gwd is started again",
            "systemctl add-wants gwd.service \(daemon.unit).service")
        ]
      }
      return [.good(subject, "its unit has it key the gateway")]
    }
  }

  func networkFindings() -> [Finding] { kernelIPsec() + firewall() }

  /// SAs of the kernel's are of nobody's use here, and its policies would drop what comes by a TAP.
  private func kernelIPsec() -> [Finding] {
    let policies = command("ip xfrm policy")?.split(separator: "\n").filter { $0.hasPrefix("src ") }.count ?? 0
    let states = command("ip xfrm state")?.split(separator: "\n").filter { $0.hasPrefix("src ") }.count ?? 0
    if policies + states == 0 { return [.good("kernel ipsec", "no state that could compete")] }
    return [
      .warning(
        "kernel ipsec",
        "the kernel has \(states) SAs and \(policies) policies of its own, which apply to what comes by the TAPs",
        "ip xfrm policy flush; ip xfrm state flush")
    ]
  }

  private func firewall() -> [Finding] {
    let taps = (configuration?.ports ?? []).filter(\.host).map(\.name)
    guard !taps.isEmpty, let rules = command("nft list ruleset"), !rules.trimmed.isEmpty else { return [] }
    let drops = rules.contains("policy drop") && rules.contains("hook input")
    guard drops else { return [.good("firewall", "nftables' rules do not drop by default")] }
    let isIKEAllowed = rules.contains("dport 500") || rules.contains("500, 4500") || rules.contains("4500")
    if isIKEAllowed { return [.good("firewall", "IKE's ports are named in nftables' rules")] }
    return [
      .warning(
        "firewall", "nftables drops what it does not know, IKE on \(taps.joined(separator: ", ")) too",
        "nft add rule inet filter input udp dport '{ 500, 4500 }' accept")
    ]
  }
}

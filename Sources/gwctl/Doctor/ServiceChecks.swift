import ConfigurationFiles
import Foundation
import Machine

extension Examination {
  func serviceFindings() -> [Finding] { unit() + fileRights() + socketRights() + denials() }

  private func unit() -> [Finding] {
    guard let text = command("systemctl show gwd -p ActiveState -p UnitFileState -p StatusText -p ExecMainStatus")
    else { return [] }
    var values: [String: String] = [:]
    for line in text.split(separator: "\n") {
      let parts = line.split(separator: "=", maxSplits: 1)
      if parts.count == 2 { values[String(parts[0])] = String(parts[1]) }
    }
    var findings: [Finding] = []
    switch values["ActiveState"] {
    case "active": findings.append(.good("gwd", "it runs: \(values["StatusText"] ?? "")"))
    case "failed":
      findings.append(
        .bad(
          "gwd", "it ended with status \(values["ExecMainStatus"] ?? "?")", "journalctl -u gwd -n 20 -o cat --no-pager")
      )
    default: findings.append(.warning("gwd", "it does not run", "systemctl start gwd"))
    }
    if values["UnitFileState"] != "enabled" {
      findings.append(.warning("gwd", "it does not start at boot", "systemctl enable gwd"))
    }
    return findings
  }

  /// Keys are for root and for gwd's own user.
  private func fileRights() -> [Finding] {
    let secrets = [configuration?.ipsec ?? "/etc/gw/ipsec.conf", "/etc/gw/keys", "/etc/gw/ike/private", "/var/lib/gw"]
    let open = secrets.filter { (mode($0) ?? 0) & 0o007 != 0 }
    if let first = open.first {
      return [
        .bad(
          "files", "\(open.joined(separator: ", ")): everybody may look",
          "chmod o= \(open.count > 1 ? open.joined(separator: " ") : first)")
      ]
    }
    return [.good("files", "keys and state are closed to others")]
  }

  private func mode(_ path: String) -> UInt32? {
    var status = stat()
    return stat(files.path(path), &status) == 0 ? status.st_mode : nil
  }

  private func socketRights() -> [Finding] {
    let folder = configuration?.runDirectory ?? "/run/gw"
    return ["xfrm.sock", "pfkey.sock", "gwctl.sock"].compactMap { name in
      guard let mode = mode("\(folder)/\(name)"), mode & 0o007 != 0 else { return nil }
      return .bad("sockets", "\(folder)/\(name) is open to everybody", "systemctl restart gwd")
    }
  }

  private func denials() -> [Finding] {
    guard files.text("/sys/module/apparmor/parameters/enabled") == "Y" else { return [] }
    guard let log = command("journalctl -k --since -1h -o cat --no-pager") else { return [] }
    let words = ["gwd", "charon", "swanctl", "iked", "pluto", "libikeshim"]
    let lines = log.split(separator: "\n").filter { line in
      line.contains("apparmor=\"DENIED\"") && words.contains { line.contains($0) }
    }
    guard let last = lines.last else { return [.good("apparmor", "nothing was denied in the last hour")] }
    return [
      .bad(
        "apparmor", "\(lines.count) denials in the last hour, the last: \(last.prefix(200))",
        "journalctl -k --since -1h | grep apparmor=.DENIED, then rules in /etc/apparmor.d/local")
    ]
  }
}

import ConfigurationFiles
import ControlAPI
import Machine

/// What is known of a machine and its gateway, and what follows from it. The checks are extensions, by subject.
struct Examination {
  let files: MachineFiles
  let commands: Commands
  /// Nil: there is no gateway.yaml yet.
  var configuration: GatewayConfiguration?
  /// What a gateway that runs says of its ports; nil: none answers.
  var ports: [PortStatus]?
  var configurationPath = "/etc/gw/gateway.yaml"
  var configurationProblem: String?

  /// All findings, in the order in which a person would mend them.
  func findings() -> [Finding] {
    configurationFindings() + nicFindings() + memoryFindings() + coreFindings() + serviceFindings() + keyFindings()
      + networkFindings()
  }

  /// The PCI addresses that the configuration names.
  var pciAddresses: [String] {
    (configuration?.ports ?? []).map(\.device).filter { $0.contains(":") && !$0.hasPrefix("net_") }.map {
      $0.split(separator: ":").count == 2 ? "0000:" + $0 : $0
    }
  }

  var online: CoreList { CoreList(files.text("/sys/devices/system/cpu/online") ?? "0") }

  /// As gwd chooses where the file does not say.
  var workers: [Int] { configuration?.workers ?? Array(online.cores.sorted().dropFirst()) }

  private func configurationFindings() -> [Finding] {
    if let configurationProblem {
      return [
        .bad("configuration", configurationProblem, "gwd --check --syntax --config \(configurationPath)")
      ]
    }
    guard configuration != nil else {
      return [.bad("configuration", "there is no \(configurationPath)", "gwctl setup")]
    }
    return [.good("configuration", "\(configurationPath) is well-formed")]
  }

  func command(_ words: String) -> String? {
    let outcome = commands.run(words.split(separator: " ").map(String.init))
    return outcome.status == 0 ? outcome.output : nil
  }
}

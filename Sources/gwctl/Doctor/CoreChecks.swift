import Machine

extension Examination {
  var kernelCommandLine: [String] { (files.text("/proc/cmdline") ?? "").split(separator: " ").map(String.init) }

  func coreFindings() -> [Finding] {
    presence() + isolation() + siblings() + governor() + clock()
  }

  private func presence() -> [Finding] {
    let missing = workers.filter { !online.contains($0) }
    if !missing.isEmpty {
      return [
        .bad(
          "workers", "cores \(CoreList(Set(missing)).text) do not exist or are offline; there are \(online.text)",
          "in gateway.yaml: workers: [\(online.cores.sorted().dropFirst().map(String.init).joined(separator: ", "))]")
      ]
    }
    if workers.contains(0), online.cores.count > 1 {
      return [
        .warning(
          "workers", "core 0 polls: interrupts and the kernel's own work are there",
          "in gateway.yaml, leave core 0 out of workers")
      ]
    }
    return [.good("workers", "on cores \(CoreList(Set(workers)).text) of \(online.text)")]
  }

  private func isolation() -> [Finding] {
    let wanted = CoreList(Set(workers)).text
    let settings = ["isolcpus", "nohz_full", "rcu_nocbs"]
    let lacking = settings.filter { name in
      let value = kernelCommandLine.last { $0.hasPrefix(name + "=") }?.dropFirst(name.count + 1) ?? ""
      let cores = CoreList(String(value))
      return !workers.allSatisfy(cores.contains)
    }
    if lacking.isEmpty { return [.good("isolation", "nothing else is scheduled on \(wanted)")] }
    let line = settings.map { "\($0)=\(wanted)" }.joined(separator: " ")
    return [
      .warning(
        "isolation",
        "\(lacking.joined(separator: ", ")) do not cover the workers' cores: other programs take them at times",
        "add to GRUB_CMDLINE_LINUX in /etc/default/grub, run update-grub, and boot again: \(line)")
    ]
  }

  private func siblings() -> [Finding] {
    var findings: [Finding] = []
    var seen: Set<String> = []
    for core in workers {
      let path = "/sys/devices/system/cpu/cpu\(core)/topology/thread_siblings_list"
      guard let text = files.text(path) else { continue }
      let shared = CoreList(text)
      guard shared.cores.count > 1, seen.insert(text).inserted else { continue }
      if workers.filter(shared.contains).count > 1 {
        findings.append(
          .warning(
            "smt", "workers on \(text) share one core: each is slower",
            "in gateway.yaml, name one of \(text) in workers"))
      } else if !shared.cores.filter({ !workers.contains($0) }).allSatisfy(isIsolated) {
        findings.append(
          .warning(
            "smt", "the other thread of core \(core) (\(text)) is free for other programs",
            "add \(text) to isolcpus, or: echo 0 >/sys/devices/system/cpu/cpu\(shared.cores.subtracting([core]).min() ?? 0)/online"
          ))
      }
    }
    return findings
  }

  private func isIsolated(_ core: Int) -> Bool {
    CoreList(files.text("/sys/devices/system/cpu/isolated") ?? "").contains(core)
  }

  private func governor() -> [Finding] {
    let slow = workers.filter {
      let name = files.text("/sys/devices/system/cpu/cpu\($0)/cpufreq/scaling_governor")
      return name != nil && name != "performance"
    }
    guard !slow.isEmpty else { return [] }
    return [
      .warning(
        "governor", "cores \(CoreList(Set(slow)).text) change their clock rate",
        "cpupower -c \(CoreList(Set(slow)).text) frequency-set -g performance")
    ]
  }

  private func clock() -> [Finding] {
    guard let source = files.text("/sys/devices/system/clocksource/clocksource0/current_clocksource") else { return [] }
    if ["tsc", "arch_sys_counter", "kvm-clock"].contains(source) { return [.good("clock", source)] }
    return [
      .warning(
        "clock", "the kernel's clock is \(source), which is slow to read",
        "boot with tsc=reliable, if the hardware's is")
    ]
  }
}

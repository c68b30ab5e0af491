import Machine

extension Examination {
  func memoryFindings() -> [Finding] { hugepages() + lockedMemory() }

  private var wantedMegabytes: Int { configuration?.memory ?? 512 }

  private func hugepages() -> [Finding] {
    let subject = "hugepages"
    if configuration?.hugepages == false {
      return [
        pciAddresses.isEmpty
          ? .good(subject, "not wanted, and virtual devices need none")
          : .warning(subject, "a NIC without hugepages is slow", "in gateway.yaml: hugepages: true")
      ]
    }
    let nodes = files.names(in: "/sys/devices/system/node").filter {
      $0.hasPrefix("node") && Int($0.dropFirst(4)) != nil
    }
    let perNode = nodes.map { (node: $0, megabytes: megabytes(in: "/sys/devices/system/node/\($0)/hugepages")) }
    let total = perNode.isEmpty ? megabytes(in: "/sys/kernel/mm/hugepages") : perNode.map(\.megabytes).reduce(0, +)
    let pages = (wantedMegabytes + 1) / 2
    let remedy =
      "echo vm.nr_hugepages=\(pages) >/etc/sysctl.d/90-gw-hugepages.conf && sysctl -p /etc/sysctl.d/90-gw-hugepages.conf"
    guard total > 0 else { return [.bad(subject, "none are reserved", remedy)] }
    var findings: [Finding] = []
    let needed = neededNodes
    for entry in perNode where entry.megabytes == 0 && needed.contains(Int(entry.node.dropFirst(4)) ?? -1) {
      findings.append(
        .bad(
          subject, "NUMA node \(entry.node.dropFirst(4)), which has a NIC or a worker, has none",
          "echo \(pages) >/sys/devices/system/node/\(entry.node)/hugepages/hugepages-2048kB/nr_hugepages"))
    }
    if total < wantedMegabytes {
      findings.append(.warning(subject, "\(total) MiB are reserved; gwd may want \(wantedMegabytes)", remedy))
    }
    if !isReservedAtBoot {
      findings.append(.warning(subject, "they are not reserved at the next boot", remedy))
    }
    return findings.isEmpty ? [.good(subject, "\(total) MiB are reserved")] : findings
  }

  private func megabytes(in folder: String) -> Int {
    files.names(in: folder).reduce(0) { sum, name in
      // hugepages-2048kB
      let kilobytes = Int(name.drop { !$0.isNumber }.prefix { $0.isNumber }) ?? 0
      return sum + (files.integer("\(folder)/\(name)/nr_hugepages") ?? 0) * kilobytes / 1024
    }
  }

  private var neededNodes: Set<Int> {
    var nodes = Set(pciAddresses.compactMap { PCIDevice($0, files: files)?.numaNode }.filter { $0 >= 0 })
    for node in files.names(in: "/sys/devices/system/node") {
      guard let number = Int(node.dropFirst(4)), node.hasPrefix("node") else { continue }
      let cores = CoreList(files.text("/sys/devices/system/node/\(node)/cpulist") ?? "")
      if workers.contains(where: cores.contains) { nodes.insert(number) }
    }
    return nodes
  }

  private var isReservedAtBoot: Bool {
    if kernelCommandLine.contains(where: { $0.hasPrefix("hugepages=") }) { return true }
    let folders = ["/etc/sysctl.d", "/usr/lib/sysctl.d", "/run/sysctl.d"]
    let settings = folders.flatMap { folder in
      files.names(in: folder).filter { $0.hasSuffix(".conf") }.map { "\(folder)/\($0)" }
    }
    return (settings + ["/etc/sysctl.conf"]).contains { path in
      files.lines(path).contains { $0.replacingOccurrences(of: " ", with: "").hasPrefix("vm.nr_hugepages=") }
    }
  }

  private func lockedMemory() -> [Finding] {
    guard let text = command("systemctl show gwd -p LimitMEMLOCK --value")?.trimmed, !text.isEmpty else { return [] }
    if text == "infinity" || text == "18446744073709551615" {
      return [.good("memlock", "the unit may pin all memory it needs")]
    }
    return [
      .bad(
        "memlock", "gwd.service may pin \(text) bytes only: keys may go to swap, and VFIO cannot map buffers",
        "systemctl edit gwd, with [Service] LimitMEMLOCK=infinity")
    ]
  }
}

extension String {
  var trimmed: String {
    var text = Substring(self)
    while text.last?.isWhitespace == true { text.removeLast() }
    while text.first?.isWhitespace == true { text.removeFirst() }
    return String(text)
  }
}

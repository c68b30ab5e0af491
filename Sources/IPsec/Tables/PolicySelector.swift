import CLayout
import Wire

extension gw_policy {
  /// Sets the fields that say which packets it is for.
  mutating func fill(_ selector: Selector) {
    (source_high, source_low) = selector.source.address.halves
    (destination_high, destination_low) = selector.destination.address.halves
    source_length = selector.source.length
    destination_length = selector.destination.length
    if selector.family == .v4 {
      source4 = UInt32(truncatingIfNeeded: source_low)
      destination4 = UInt32(truncatingIfNeeded: destination_low)
    }
    family = selector.family.rawValue
    ip_protocol = selector.ipProtocol ?? 0
    any_protocol = selector.ipProtocol == nil ? 1 : 0
    source_port_low = selector.sourcePorts.lowerBound
    source_port_high = selector.sourcePorts.upperBound
    destination_port_low = selector.destinationPorts.lowerBound
    destination_port_high = selector.destinationPorts.upperBound
  }
}

import ConfigurationFiles

@testable import IKEControl

enum Rules {
  static func parse(_ text: String) throws -> [IKEConnection] { try IPsecConf.parse(text: text).connections() }

  static let example = """
    ike esp from 192.168.60.0/24 to 172.20.1.0/24 local 198.51.100.1 peer 198.51.100.2 \\
      main auth hmac-sha2-256 enc aes-256 group modp2048 lifetime 1h quick enc aes-128-gcm group modp2048 lifetime 600 \\
      psk "a secret"

    """
}

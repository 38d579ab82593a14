# dstor-sync for Nix, built from this tree:
#
#   nix build 'git+file:.?dir=packaging/nix'            from a clone; the program is at result/bin/dstor-sync
#   nix run 'git+file:.?dir=packaging/nix' -- --help
#
# The service of a user's own is in share/systemd/user of what is built: `systemd.packages` (NixOS) and
# `systemd.user.packages` (home-manager) take it from there. There is no lock file: it needs a nixpkgs with Rust 1.95, and
# which one is the user's choice (`--override-input nixpkgs …`, or `inputs.dstor-sync.inputs.nixpkgs.follows`).
{
  description = "Watches local directories and mirrors them, one way, to dStor (IPFS-based cloud storage)";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      systems = [ "x86_64-linux" "aarch64-linux" "x86_64-darwin" "aarch64-darwin" ];
      each = of: nixpkgs.lib.genAttrs systems (system: of nixpkgs.legacyPackages.${system});
      source = ../..;
      package = (builtins.fromTOML (builtins.readFile (source + "/Cargo.toml"))).package;
    in
    {
      packages = each (pkgs: {
        default = pkgs.rustPlatform.buildRustPackage {
          pname = package.name;
          inherit (package) version;
          src = source;
          cargoLock.lockFile = source + "/Cargo.lock";
          cargoBuildFlags = [ "--bin" package.name ];
          # They take half an hour, and need strace, groff, zsh and fish.
          doCheck = false;
          nativeBuildInputs = [ pkgs.installShellFiles ];
          postInstall = ''
            mkdir man
            $out/bin/dstor-sync man --all man
            installManPage man/*
            for shell in bash zsh fish; do
              $out/bin/dstor-sync completions $shell > dstor-sync.$shell
            done
            installShellCompletion dstor-sync.{bash,zsh,fish}
            for kind in user system; do mkdir -p $out/share/systemd/$kind; done
            cp packaging/systemd/dstor-sync.service $out/share/systemd/user
            cp packaging/systemd/dstor-sync@.service $out/share/systemd/system
            substituteInPlace $out/share/systemd/*/*.service \
              --replace-fail /usr/bin/dstor-sync $out/bin/dstor-sync \
              --replace-quiet /bin/kill ${pkgs.coreutils}/bin/kill
          '';
          meta = {
            inherit (package) description;
            license = with pkgs.lib.licenses; [ mit asl20 ];
            mainProgram = package.name;
          };
        };
      });
    };
}

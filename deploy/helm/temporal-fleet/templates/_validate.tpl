{{/*
Notes a problem. Argument: a list of the fleet and the text.
*/}}
{{- define "temporal-fleet.problem" -}}
{{- $fleet := first . -}}
{{- $_ := set $fleet "problems" (append $fleet.problems (last .)) -}}
{{- end -}}

{{/*
Refuses values that contradict each other. Argument: a dict of root and fleet.
*/}}
{{- define "temporal-fleet.validate" -}}
{{- $fleet := .fleet -}}
{{- include "temporal-fleet.check-release" . -}}
{{- range $queue := $fleet.queues -}}
{{- include "temporal-fleet.check-queue" (dict "fleet" $fleet "queue" $queue) -}}
{{- include "temporal-fleet.check-routing" (dict "fleet" $fleet "queue" $queue) -}}
{{- end -}}
{{- range $build := $fleet.builds -}}
{{- include "temporal-fleet.check-build" (dict "fleet" $fleet "build" $build) -}}
{{- include "temporal-fleet.check-scaling" (dict "fleet" $fleet "build" $build) -}}
{{- end -}}
{{- with $fleet.problems -}}
{{- fail (printf "\n\ntemporal-fleet: the values have %s:\n  - %s\n" (eq (len .) 1 | ternary "a problem" (printf "%d problems" (len .))) (join "\n  - " .)) -}}
{{- end -}}
{{- end -}}

{{/*
Refuses keys where they mean nothing. Argument: a dict of fleet, key, own (values of the queue) and defaults.
*/}}
{{- define "temporal-fleet.check-placement" -}}
{{- $fleet := .fleet -}}
{{- $key := .key -}}
{{- $own := .own -}}
{{- if not (regexMatch "^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$" $key) -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "queue '%s': its key becomes part of names in Kubernetes; use at most 40 of a-z, 0-9 and -, and set taskQueue and deploymentName to what Temporal should see" $key)) -}}
{{- end -}}
{{- if has $key (list "hooks" "dev-server") -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "queue '%s': the chart has objects of its own by this name; use another key, and set taskQueue and deploymentName to what Temporal should see" $key)) -}}
{{- end -}}
{{- range $wrong := list "builds" "buildId" "versioned" "deploymentName" -}}
{{- if hasKey $.defaults $wrong -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "queueDefaults.%s: this differs for each queue; move it to queues.%s" $wrong $key)) -}}
{{- end -}}
{{- end -}}
{{- range $wrong := list "buildId" "versioned" -}}
{{- if hasKey $own $wrong -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "queue '%s': %s belongs to a build; move it to queues.%s.builds.<key>.%s" $key $wrong $key $wrong)) -}}
{{- end -}}
{{- end -}}
{{- range $buildKey, $build := $own.builds -}}
{{- if not (regexMatch "^[a-z0-9]([-a-z0-9]{0,18}[a-z0-9])?$" $buildKey) -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "queue '%s', build '%s': its key becomes part of names in Kubernetes; use at most 20 of a-z, 0-9 and -, such as blue; the build ID may hold more" $key $buildKey)) -}}
{{- end -}}
{{- $id := ($build | default dict).buildId -}}
{{- if not (or (kindIs "invalid" $id) (kindIs "string" $id)) -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "queue '%s', build '%s': buildId is the number %s; write it in quotes, such as buildId: \"1.10\", since YAML drops zeros of numbers; with --set, use --set-string" $key $buildKey (include "temporal-fleet.text" $id))) -}}
{{- end -}}
{{- range $wrong := list "builds" "routing" "rollout" "deploymentName" -}}
{{- if hasKey ($build | default dict) $wrong -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "queue '%s', build '%s': %s is the same for all builds of a queue; move it to queues.%s.%s" $key $buildKey $wrong $key $wrong)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/*
What concerns the release as a whole. Argument: a dict of root and fleet.
*/}}
{{- define "temporal-fleet.check-release" -}}
{{- $fleet := .fleet -}}
{{- $values := .root.Values -}}
{{- with $values.temporal.address -}}
{{- if not (regexMatch "^[^/\\s]+:[0-9]{1,5}$" .) -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "temporal.address is '%s'; write host:port, such as temporal-frontend.temporal.svc:7233, without https://" .)) -}}
{{- end -}}
{{- end -}}
{{- if and $fleet.queues (not (include "temporal-fleet.address" .root)) -}}
{{- include "temporal-fleet.problem" (list $fleet "temporal.address is empty: set it to host:port of the Temporal frontend, or set temporal.devServer.enabled to true for a server to try the chart with") -}}
{{- end -}}
{{- $deployments := dict -}}
{{- range $queue := $fleet.queues -}}
{{- if $queue.with -}}
{{- include "temporal-fleet.check-shared" (dict "fleet" $fleet "queue" $queue) -}}
{{- else -}}
{{- with get $deployments $queue.deployment -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "queue '%s': deploymentName '%s' is also that of queue '%s'; two task queues with routing of their own need two Worker Deployments. Two kinds of workers of one task queue share one: give both the same taskQueue" $queue.key $queue.deployment .)) -}}
{{- end -}}
{{- end -}}
{{- $_ := set $deployments $queue.deployment $queue.key -}}
{{- end -}}
{{- include "temporal-fleet.check-task-queues" $fleet -}}
{{- $names := dict -}}
{{- range $path, $_ := .root.Files.Glob "files/dashboards/*.json" -}}
{{- $_ := set $names (include "temporal-fleet.dashboard-name" (list $.root $path)) "a dashboard" -}}
{{- end -}}
{{- range $build := $fleet.builds -}}
{{- with get $names $build.name -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "queue '%s', build '%s': its objects would have the name '%s', as %s has; use another key for one of them" $build.queue $build.key $build.name .)) -}}
{{- end -}}
{{- $_ := set $names $build.name (printf "queue '%s', build '%s'" $build.queue $build.key) -}}
{{- end -}}
{{- if and $values.monitoring.podMonitor.enabled $values.monitoring.serviceMonitor.enabled -}}
{{- include "temporal-fleet.problem" (list $fleet "monitoring: podMonitor and serviceMonitor are both enabled and would scrape every worker twice; enable one of them") -}}
{{- end -}}
{{- with $values.temporal.codec -}}
{{- if and .encryptionKeyId (not .secretName) -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "temporal.codec.encryptionKeyId is '%s', but temporal.codec.secretName is empty; name the Secret that holds this key, or payloads would not be encrypted" .encryptionKeyId)) -}}
{{- end -}}
{{- end -}}
{{- range $name, $_ := $values.temporal.env -}}
{{- with include "temporal-fleet.place-of-credential" $name -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "temporal.env.%s: %s" $name .)) -}}
{{- end -}}
{{- if regexMatch "^(FLEET_.*|TEMPORAL_(ADDRESS|NAMESPACE))$" $name -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "temporal.env.%s: this has a value of its own; use the keys of temporal for the connection, and settings for FLEET_ variables" $name)) -}}
{{- end -}}
{{- end -}}
{{- include "temporal-fleet.check-plain-text" (dict "fleet" $fleet "at" "temporal.env" "env" $values.temporal.env "cure" "put it into a Secret, and name that in queueDefaults.envFrom and hooks.envFrom, as [{secretRef: {name: <Secret>}}]") -}}
{{- include "temporal-fleet.check-plain-text" (dict "fleet" $fleet "at" "hooks.env" "env" $values.hooks.env "cure" "put it into a Secret, and write {valueFrom: {secretKeyRef: {name: <Secret>, key: <key>}}}") -}}
{{- range $at, $variables := dict "temporal.env" $values.temporal.env "hooks.env" $values.hooks.env -}}
{{- include "temporal-fleet.check-numbers" (dict "fleet" $fleet "at" $at "env" $variables) -}}
{{- end -}}
{{- range $at, $labels := dict "commonLabels" $values.commonLabels "hooks.nodeSelector" $values.hooks.nodeSelector -}}
{{- include "temporal-fleet.check-labels" (dict "fleet" $fleet "at" $at "labels" $labels) -}}
{{- end -}}
{{- include "temporal-fleet.check-references" (dict "fleet" $fleet "at" "hooks" "place" "hooks.env" "env" (include "temporal-fleet.hook-variables" .root | fromJson) "others" list "envFrom" $values.hooks.envFrom) -}}
{{- range $path, $image := dict "hooks.image" $values.hooks.image "temporal.devServer.image" $values.temporal.devServer.image -}}
{{- include "temporal-fleet.check-image" (dict "fleet" $fleet "at" $path "image" $image "repository" (tpl $image.repository (dict "Template" $.root.Template))) -}}
{{- end -}}
{{- $routing := $values.hooks.routing -}}
{{- if ge (int $routing.pollerTimeoutSeconds) (int $routing.activeDeadlineSeconds) -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "hooks.routing: pollerTimeoutSeconds is %d, not less than activeDeadlineSeconds, which is %d, so the Job would be killed before it can say which build is not polled; raise activeDeadlineSeconds to %d, or lower pollerTimeoutSeconds" (int $routing.pollerTimeoutSeconds) (int $routing.activeDeadlineSeconds) (add $routing.pollerTimeoutSeconds 50))) -}}
{{- end -}}
{{- range $forced := $values.hooks.guard.forceRemoveBuilds -}}
{{- if not (regexMatch "^[^/]+/[^/]+$" $forced) -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "hooks.guard.forceRemoveBuilds: '%s' is not <queue key>/<build ID>, such as orders/1.4.0" $forced)) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/*
Refuses two queues with one task queue in Temporal. A task queue that is not given is known by its workload, which
declares it. Unversioned builds take no part in routing. Argument: the fleet.
*/}}
{{- define "temporal-fleet.check-task-queues" -}}
{{- $fleet := . -}}
{{- $owners := dict -}}
{{- range $build := .builds -}}
{{- if .versioned -}}
{{- $polled := .values.taskQueue | empty | ternary (printf "the task queue of workload '%s'" .workload) (printf "task queue '%s'" .values.taskQueue) -}}
{{- $owner := get $owners $polled | default . -}}
{{- $problem := printf "queue '%s': it polls %s, as queue '%s' does; Temporal routes a task queue by one Worker Deployment only, so one of them would get nothing. Make them builds of one queue, or give each a taskQueue of its own. Where one runs the workflows and the other the activities, give both the same deploymentName and taskQueue" .queue $polled $owner.queue -}}
{{- if not (or (eq $owner.queue .queue) (eq $owner.deployment .deployment) (has $problem $fleet.problems)) -}}
{{- include "temporal-fleet.problem" (list $fleet $problem) -}}
{{- end -}}
{{- $_ := set $owners $polled $owner -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/*
Whether a queue has the same builds and routing as the one whose Worker Deployment it shares: the server knows both by
one name, and so their builds by one build ID. Argument: a dict of fleet and queue.
*/}}
{{- define "temporal-fleet.check-shared" -}}
{{- $shown := list -}}
{{- range $queue := list .queue .queue.with -}}
{{- $builds := dict -}}
{{- range .builds }}{{- $_ := set $builds .key (dict "buildId" .id "versioned" .versioned) -}}{{- end -}}
{{- $shown = append $shown (dict
  "builds" (toJson $builds)
  "routing" (toJson (dict "current" .current "ramping" .ramping "percentage" .percentage))
  "rollout" (toJson (pick .values.rollout "mode" "allowRampDown" "allowMissingTaskQueues" "allowSharedTaskQueues"))
) -}}
{{- end -}}
{{- range $part := list "builds" "routing" "rollout" -}}
{{- $own := get (first $shown) $part -}}
{{- $other := get (last $shown) $part -}}
{{- if ne $own $other -}}
{{- include "temporal-fleet.problem" (list $.fleet (printf "queue '%s': %s is %s, but %s in queue '%s', which has the same deploymentName '%s' and task queue '%s'; workers that share a Worker Deployment are routed together, so make both the same" $.queue.key $part $own $other $.queue.with.key $.queue.deployment $.queue.values.taskQueue)) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/*
Refuses an image whose parts hold what belongs elsewhere. Argument: a dict of fleet, at (the place of the image in
messages), image and repository, the evaluated one.
*/}}
{{- define "temporal-fleet.check-image" -}}
{{- $fleet := .fleet -}}
{{- range $part, $text := dict "registry" (.image.registry | default "") "repository" .repository -}}
{{- if contains "://" $text -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "%s.%s is '%s'; leave out %s" $.at $part $text (regexFind "^.*?://" $text))) -}}
{{- end -}}
{{- end -}}
{{- if contains "@" .repository -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "%s.repository is '%s', which has a digest; put %s into image.digest" .at .repository (regexFind "@.*" .repository | trimPrefix "@"))) -}}
{{- else if contains ":" (base .repository) -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "%s.repository is '%s', which has a tag; put %s into image.tag, or leave it out" .at .repository (regexFind ":[^:]*$" .repository | trimPrefix ":"))) -}}
{{- end -}}
{{- end -}}

{{/*
Where a variable of the connection belongs that may hold a secret, or nothing for any other variable.
Argument: the name of the variable.
*/}}
{{- define "temporal-fleet.place-of-credential" -}}
{{- if hasPrefix "TEMPORAL_API_KEY" . -}}
workers and Jobs read the API key from a mounted Secret, and anybody would read it here; name that Secret in temporal.apiKey.secretName
{{- else if hasPrefix "TEMPORAL_TLS" . -}}
encryption is the same for workers and Jobs; use the keys of temporal.tls
{{- end -}}
{{- end -}}

{{/*
What concerns a task queue and the builds of it together. Argument: a dict of fleet and queue.
*/}}
{{- define "temporal-fleet.check-queue" -}}
{{- $fleet := .fleet -}}
{{- $queue := .queue -}}
{{- if not $queue.builds -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "queue '%s': it has no builds; name one, such as builds: {blue: {buildId: \"1.0.0\"}}, or remove the queue with %s: null" $queue.key $queue.key)) -}}
{{- end -}}
{{- $ids := dict -}}
{{- $unversioned := list -}}
{{- range $build := $queue.builds -}}
{{- with and $build.id (get $ids $build.id) -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "queue '%s', build '%s': buildId '%s' is also that of build '%s'; a build ID names one build" $queue.key $build.key $build.id .)) -}}
{{- end -}}
{{- $_ := set $ids $build.id $build.key -}}
{{- if not $build.versioned }}{{- $unversioned = append $unversioned $build.key -}}{{- end -}}
{{- end -}}
{{- if gt (len $unversioned) 1 -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "queue '%s': the builds %s all have versioned: false; Temporal cannot tell unversioned workers apart, so keep one" $queue.key (join ", " $unversioned))) -}}
{{- end -}}
{{- end -}}

{{/*
Whether the routing names builds that are there. Argument: a dict of fleet and queue.
*/}}
{{- define "temporal-fleet.check-routing" -}}
{{- $fleet := .fleet -}}
{{- $queue := .queue -}}
{{- $keys := list -}}
{{- range $queue.builds }}{{- $keys = append $keys .key -}}{{- end -}}
{{- $have := printf "it has %s" (join ", " $keys) -}}
{{- if and (not $queue.current) (gt (len $keys) 1) -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "queue '%s': routing.current is empty, and there are several builds; set it to one of %s" $queue.key (join ", " $keys))) -}}
{{- end -}}
{{- range $name := list "current" "ramping" -}}
{{- $wanted := get $queue $name -}}
{{- if and $wanted $keys (not (has $wanted $keys)) -}}
{{- $hint := $have -}}
{{- range $queue.builds -}}
{{- if eq .id $wanted }}{{- $hint = printf "that is the build ID of build '%s'; write its key" .key -}}{{- end -}}
{{- end -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "queue '%s': routing.%s is '%s', which is not a key of its builds; %s" $queue.key $name $wanted $hint)) -}}
{{- end -}}
{{- end -}}
{{- if and $queue.ramping (eq (toString $queue.ramping) (toString $queue.current)) -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "queue '%s': routing.ramping is '%s', which is current already; leave ramping out, or name another build" $queue.key $queue.ramping)) -}}
{{- end -}}
{{- if and (not $queue.ramping) (gt (float64 $queue.percentage) 0.0) -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "queue '%s': routing.percentage is %s, but nothing is ramping; set routing.ramping to the key of a build, or percentage to 0" $queue.key (include "temporal-fleet.text" $queue.percentage))) -}}
{{- end -}}
{{- end -}}

{{/*
What concerns one build. Argument: a dict of fleet and build.
*/}}
{{- define "temporal-fleet.check-build" -}}
{{- $fleet := .fleet -}}
{{- $build := .build -}}
{{- $values := $build.values -}}
{{- $at := printf "queue '%s', build '%s'" $build.queue $build.key -}}
{{- if not $build.id -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "%s: buildId is missing; set it to that of its image, such as buildId: \"1.4.0\", or remove the build with %s: null" $at $build.key)) -}}
{{- else if not (regexMatch "^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$" $build.id) -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "%s: buildId is %q; it becomes a label, so use 1 to 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends" $at $build.id)) -}}
{{- end -}}
{{- range $name, $text := dict "deploymentName" $build.deployment "taskQueue" ($values.taskQueue | default "") "temporal.namespace" $build.root.Values.temporal.namespace -}}
{{- if regexMatch "[[:cntrl:]]" $text -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "%s: %s is %q, which has a control character, such as the end of a line; remove it" $at $name $text)) -}}
{{- end -}}
{{- end -}}
{{- if not $values.image.repository -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "%s: image.repository is empty; set it to where the workload's image is, without a tag" $at)) -}}
{{- end -}}
{{- include "temporal-fleet.check-image" (dict "fleet" $fleet "at" (printf "%s: image" $at) "image" $values.image "repository" $build.repository) -}}
{{- range $list := list "initContainers" "sidecars" -}}
{{- with get $values $list -}}
{{- range $container := include "temporal-fleet.evaluate" (list $build .) | fromYamlArray -}}
{{- if kindIs "map" $container -}}
{{- $image := $container.image | default "" | toString -}}
{{- if not (regexMatch "^[A-Za-z0-9]" $image) -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "%s: %s: the image of container '%s' is '%s' once its templates are evaluated; write a reference, such as registry.example/proxy:2, or {{ .image }} for that of the worker" $at $list $container.name $image)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if lt $build.grace $build.drain -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "%s: terminationGracePeriodSeconds is %d, but the drain takes up to %d s (settings.drainTimeoutSeconds %s + settings.drainMarginSeconds %s), so running work would be killed; raise it to %d or leave it out" $at $build.grace $build.drain (include "temporal-fleet.text" (dig "drainTimeoutSeconds" 30 $values.settings)) (include "temporal-fleet.text" (dig "drainMarginSeconds" 10 $values.settings)) (add $build.drain 5))) -}}
{{- end -}}
{{- if eq $build.port 0 -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "%s: settings.healthPort is 0, any free port, which probes cannot find; leave it out or name a port" $at)) -}}
{{- end -}}
{{- with $values.strategy -}}
{{- if and (eq .type "Recreate") .rollingUpdate -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "%s: strategy.type is Recreate, which Kubernetes refuses together with strategy.rollingUpdate; remove rollingUpdate, or set it to null where another values file has it" $at)) -}}
{{- end -}}
{{- end -}}
{{- $owners := dict
  "FLEET_DEPLOYMENT_NAME" "deploymentName"
  "FLEET_DEPLOYMENT_BUILD_ID" "builds.<key>.buildId"
  "FLEET_DEPLOYMENT_VERSIONING" "builds.<key>.versioned"
  "FLEET_WORKER_TASK_QUEUE" "taskQueue"
  "FLEET_SECRETS_DIR" "secretFiles"
  "FLEET_DRAIN_TIMEOUT_SECONDS" "settings.drainTimeoutSeconds"
  "FLEET_DRAIN_MARGIN_SECONDS" "settings.drainMarginSeconds"
  "FLEET_HEALTH_PORT" "settings.healthPort"
  "FLEET_HEALTH_LIVENESS_TIMEOUT_SECONDS" "settings.healthLivenessTimeoutSeconds"
  "FLEET_CONNECTION_DEADLINE_SECONDS" "settings.connectionDeadlineSeconds"
  "TEMPORAL_ADDRESS" "temporal.address"
  "TEMPORAL_NAMESPACE" "temporal.namespace"
-}}
{{- include "temporal-fleet.check-plain-text" (dict "fleet" $fleet "at" (printf "%s: env" $at) "env" $values.env "cure" "put it into a Secret, and write {valueFrom: {secretKeyRef: {name: <Secret>, key: <key>}}}, or move it to secretEnv") -}}
{{- include "temporal-fleet.check-plain-text" (dict "fleet" $fleet "at" (printf "%s: settings" $at) "env" $values.settings "cure" "leave it out, and give its FLEET_ variable by a Secret in envFrom, or by secretEnv") -}}
{{- range $map := list "env" "secretEnv" "settings" -}}
{{- include "temporal-fleet.check-numbers" (dict "fleet" $fleet "at" (printf "%s: %s" $at $map) "env" (get $values $map)) -}}
{{- end -}}
{{- range $map := list "podLabels" "nodeSelector" -}}
{{- include "temporal-fleet.check-labels" (dict "fleet" $fleet "at" (printf "%s: %s" $at $map) "labels" (get $values $map)) -}}
{{- end -}}
{{- include "temporal-fleet.check-references" (dict "fleet" $fleet "at" $at "place" "env" "env" (merge (deepCopy $values.env) $build.referring) "others" (list $build.config $values.secretEnv) "envFrom" $values.envFrom) -}}
{{- $settings := dict -}}
{{- range $name, $_ := $values.settings }}{{- $_ := set $settings (include "temporal-fleet.variable" $name) $name -}}{{- end -}}
{{- range $map := list "env" "secretEnv" -}}
{{- range $name, $_ := get $values $map -}}
{{- $credential := include "temporal-fleet.place-of-credential" $name -}}
{{- if hasKey $owners $name -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "%s: %s.%s would contradict what the chart derives from %s; set that instead" $at $map $name (get $owners $name))) -}}
{{- else if $credential -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "%s: %s.%s: %s" $at $map $name $credential)) -}}
{{- else if hasKey $settings $name -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "%s: %s.%s contradicts settings.%s, which is the same setting; keep settings.%s alone" $at $map $name (get $settings $name) (get $settings $name))) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $name := list "deploymentName" "deploymentBuildId" "deploymentVersioning" "workerTaskQueue" "temporalAddress" "temporalNamespace" -}}
{{- if hasKey $values.settings $name -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "%s: settings.%s would contradict what the chart derives from %s; set that instead" $at $name (get $owners (include "temporal-fleet.variable" $name)))) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/*
Whether a build gets workers, and an autoscaler of it can work. Argument: a dict of fleet and build.
*/}}
{{- define "temporal-fleet.check-scaling" -}}
{{- $fleet := .fleet -}}
{{- $build := .build -}}
{{- $scaling := $build.values.autoscaling -}}
{{- $at := printf "queue '%s', build '%s'" $build.queue $build.key -}}
{{- if $scaling.enabled -}}
{{- if gt (int $scaling.minReplicas) (int $scaling.maxReplicas) -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "%s: autoscaling.minReplicas is %d, more than maxReplicas, which is %d; raise maxReplicas" $at (int $scaling.minReplicas) (int $scaling.maxReplicas))) -}}
{{- end -}}
{{- if gt (int $scaling.drainingMinReplicas) (int $scaling.maxReplicas) -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "%s: autoscaling.drainingMinReplicas is %d, more than maxReplicas, which is %d; lower it" $at (int $scaling.drainingMinReplicas) (int $scaling.maxReplicas))) -}}
{{- end -}}
{{- if eq $scaling.engine "keda" -}}
{{- if not $build.values.taskQueue -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "%s: autoscaling.engine is keda, which must be told the task queue; set queues.%s.taskQueue to the one that workload '%s' polls" $at $build.queue $build.workload)) -}}
{{- end -}}
{{- include "temporal-fleet.check-requests" (dict "fleet" $fleet "build" $build "wanted" $scaling.keda "path" "autoscaling.keda") -}}
{{- include "temporal-fleet.check-keda-connection" (dict "fleet" $fleet "at" $at "temporal" $build.root.Values.temporal) -}}
{{- else -}}
{{- if and (eq $build.role "idle") (eq (int $scaling.drainingMinReplicas) 0) -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "%s: autoscaling.drainingMinReplicas is 0, which a HorizontalPodAutoscaler cannot do; use 1 or more, or engine: keda" $at)) -}}
{{- end -}}
{{- if not (or (int $scaling.cpu) (int $scaling.memory) $scaling.metrics) -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "%s: autoscaling is enabled, but nothing is measured; set autoscaling.cpu or autoscaling.memory to a percentage, or give autoscaling.metrics" $at)) -}}
{{- end -}}
{{- include "temporal-fleet.check-requests" (dict "fleet" $fleet "build" $build "wanted" $scaling "path" "autoscaling") -}}
{{- end -}}
{{- else if and (ne $build.role "idle") (eq $build.floor 0) -}}
{{- include "temporal-fleet.problem" (list $fleet (printf "%s: replicas is 0, but the build is %s: it gets new work and has no workers; set replicas to 1 or more, or route to another build" $at $build.role)) -}}
{{- end -}}
{{- end -}}

{{/*
Whether KEDA can connect as the workers do: it encrypts if it has an API key or a client certificate, and only then.
Argument: a dict of fleet, at and temporal (the values of the connection).
*/}}
{{- define "temporal-fleet.check-keda-connection" -}}
{{- $tls := .temporal.tls -}}
{{- if or .temporal.apiKey.secretName $tls.client.secretName -}}
{{- if and (kindIs "bool" $tls.enabled) (not $tls.enabled) -}}
{{- include "temporal-fleet.problem" (list .fleet (printf "%s: autoscaling.engine is keda, which always encrypts with temporal.apiKey or temporal.tls.client, but temporal.tls.enabled is false; use engine: hpa" .at)) -}}
{{- end -}}
{{- else if or $tls.ca.secretName (eq (toString $tls.enabled) "true") -}}
{{- include "temporal-fleet.problem" (list .fleet (printf "%s: autoscaling.engine is keda, which encrypts only with temporal.apiKey or temporal.tls.client, and neither is set, but temporal.tls is; set one of them, or use engine: hpa" .at)) -}}
{{- end -}}
{{- end -}}

{{/*
Whether there are requests that a percentage can be of. Argument: a dict of fleet, build, wanted (cpu, memory) and path.
*/}}
{{- define "temporal-fleet.check-requests" -}}
{{- $resources := .build.values.resources -}}
{{- range $resource := list "cpu" "memory" -}}
{{- $asked := or (dig "requests" $resource "" $resources) (dig "limits" $resource "" $resources) -}}
{{- if and (int (get $.wanted $resource)) (not $asked) -}}
{{- include "temporal-fleet.problem" (list $.fleet (printf "queue '%s', build '%s': %s.%s is a percentage of resources.requests.%s, which is not set; set it, or %s.%s to 0" $.build.queue $.build.key $.path $resource $resource $.path $resource)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
